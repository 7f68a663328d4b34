//! Against what others wrote: Debian's `docker-registry`, filled by `skopeo`, and the archives that `podman save` writes.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use skerry_image::{Auth, Image, ImageError, Kind, Progress, Result};
use skerry_testkit::wait::until;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::common::{Store, Tar, TestImage, arch, archive, sha256, spread};

const START: Duration = Duration::from_secs(30);
/// The password `secret`, hashed as the registry wants it.
const LOGINS: &str = "me:$2y$05$TMB0hPlMe6ziI4xHcgUPL.2fuUPmybgHfoFSygcSZRgG08.Cm8WLq\n";

/// Whether a test can run here; says loudly when it cannot.
#[expect(clippy::print_stderr, reason = "a test left out must be seen")]
fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let missing: Vec<_> = programs.iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: {missing:?} is not installed; scripts/setup.sh test installs it");
    }
    missing.is_empty()
}

/// Runs a program that must work.
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

/// A registry on loopback, gone with the test.
struct Registry {
    process: Child,
    folder: TempDir,
    address: SocketAddr,
    private: bool,
}

impl Registry {
    fn start(private: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // Nobody else gets a port that was free a moment ago: the kernel hands them out in turn.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            path("data").display()
        );
        if private {
            fs::write(path("logins"), LOGINS).unwrap();
            let logins = path("logins").display().to_string();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {logins}}}}}\n");
        }
        fs::write(path("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdout(Stdio::null())
            // It calls every question that has no for an answer an error.
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        until(START, "the registry listens", || {
            Ok(TcpStream::connect(address).ok())
        })
        .unwrap();
        Self {
            process,
            folder,
            address,
            private,
        }
    }

    /// Fills it with the image of that layout under this name.
    fn push(&self, layout: &Path, name: &str, options: &[&str]) {
        let from = format!("oci:{}", layout.display());
        let to = format!("docker://{}/{name}", self.address);
        let mut args = vec!["copy", "--quiet", "--dest-tls-verify=false"];
        if self.private {
            args.extend(["--dest-creds", "me:secret"]);
        }
        args.extend(options);
        run("skopeo", &[&args[..], &[&from, &to]].concat());
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The file in which it keeps a blob.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = "data/docker/registry/v2/blobs/sha256";
        let folder = self.folder.path().join(blobs).join(&hex[..2]);
        folder.join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A layer with gzip, and one with zstd over it that hides a file of the first.
fn image() -> TestImage {
    let noise: Vec<u8> = (0..400_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let lower = Tar::new()
        .folder("etc")
        .file("etc/gone", b"gone")
        .file("etc/noise", &noise);
    let upper = Tar::new().file("etc/.wh.gone", b"").file("etc/new", b"new");
    TestImage::new(vec![lower.done(), upper.done()])
}

/// An OCI layout that holds one document, the last of these; the others are what it needs.
fn layout(store: &Store, kind: &str, documents: &[Vec<u8>]) -> PathBuf {
    let folder = store.folder.path().join("layout");
    let path = |bytes: &Vec<u8>| format!("blobs/{}", sha256(bytes).replace(':', "/"));
    let mut files: BTreeMap<_, _> = documents.iter().map(|b| (path(b), b.clone())).collect();
    let top = documents.last().unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [described(kind, top)]});
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
    files.insert("oci-layout".to_owned(), version.to_vec());
    spread(&files, &folder);
    folder
}

fn described(kind: &str, bytes: &[u8]) -> Value {
    let kind = format!("application/vnd.oci.image.{kind}.v1+json");
    json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()})
}

fn single(store: &Store, image: &TestImage) -> PathBuf {
    layout(store, "manifest", &parts(image))
}

fn parts(image: &TestImage) -> Vec<Vec<u8>> {
    let blobs = image.layers.iter().chain([&image.config, &image.manifest]);
    blobs.cloned().collect()
}

/// An index with an image for another machine before ours.
fn several(store: &Store, ours: &TestImage) -> PathBuf {
    let other = TestImage::with_arch(vec![Tar::new().folder("other").done()], "s390x");
    let entry = |image: &TestImage, arch: &str| {
        let mut entry = described("manifest", &image.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": arch});
        entry
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&other, "s390x"), entry(ours, arch())],
    });
    let index = index.to_string().into_bytes();
    layout(
        store,
        "index",
        &[parts(&other), parts(ours), vec![index]].concat(),
    )
}

async fn pull(store: &Store, name: &str) -> Result<std::sync::Arc<Image>> {
    store
        .images
        .pull(name, Auth::Anonymous, Progress::none())
        .await
}

fn check(image: &Image) {
    assert_eq!((image.kind, image.layers.len()), (Kind::Oci, 2));
    assert_eq!(fs::read(image.layers[0].join("etc/gone")).unwrap(), b"gone");
    assert_eq!(fs::read(image.layers[1].join("etc/new")).unwrap(), b"new");
    assert!(fs::symlink_metadata(image.layers[1].join("etc/gone")).is_ok());
    assert_eq!(image.config.workdir, "/srv/app");
}

#[tokio::test]
async fn what_skopeo_pushes_is_pulled_by_tag_digest_and_index() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let (registry, store, image) = (Registry::start(false), Store::new(), image());
    registry.push(&single(&store, &image), "team/app:one", &[]);
    check(&pull(&store, &registry.name("team/app:one")).await.unwrap());

    let by_digest = registry.name(&format!("team/app@{}", sha256(&image.manifest)));
    check(&pull(&store, &by_digest).await.unwrap());

    registry.push(&several(&store, &image), "team/app:many", &["--all"]);
    let many = pull(&store, &registry.name("team/app:many")).await.unwrap();
    check(&many);
    assert_eq!(store.layers().len(), 2, "layers are shared");
    assert_eq!(store.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn docker_manifests_are_understood_as_well() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let (registry, store) = (Registry::start(false), Store::new());
    let image = TestImage::new(vec![Tar::new().file("etc/new", b"new").done()]);
    let layout = single(&store, &image);
    registry.push(&layout, "app:v2", &["--format", "v2s2"]);
    let got = pull(&store, &registry.name("app:v2")).await.unwrap();
    assert_eq!(fs::read(got.layers[0].join("etc/new")).unwrap(), b"new");
}

#[tokio::test]
async fn what_is_not_there_not_allowed_or_not_right_is_said_as_such() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let (registry, store, image) = (Registry::start(true), Store::new(), image());
    registry.push(&single(&store, &image), "app:1", &[]);
    let basic = |password: &str| Auth::Basic {
        user: "me".to_owned(),
        password: password.to_owned(),
    };
    let get = |name: &str, auth: Auth| {
        let name = registry.name(name);
        let images = store.images.clone();
        async move { images.pull(&name, auth, Progress::none()).await }
    };
    for auth in [Auth::Anonymous, basic("wrong")] {
        let refused = get("app:1", auth).await;
        assert!(
            matches!(refused, Err(ImageError::Login { .. })),
            "{refused:?}"
        );
    }
    for missing in ["app:2", "nosuch:1", &format!("app@{}", sha256(b"other"))] {
        let missing = get(missing, basic("secret")).await;
        assert!(
            matches!(missing, Err(ImageError::Missing { .. })),
            "{missing:?}"
        );
    }
    // One bit of a layer turned over on the registry's disk.
    let blob = registry.blob(&sha256(&image.layers[0]));
    let right = fs::read(&blob).unwrap();
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    fs::write(&blob, wrong).unwrap();
    let error = get("app:1", basic("secret")).await;
    assert!(matches!(error, Err(ImageError::Digest { .. })), "{error:?}");
    fs::write(&blob, right).unwrap();
    check(&get("app:1", basic("secret")).await.unwrap());

    let nobody = pull(&store, "127.0.0.1:1/app:1").await;
    assert!(
        matches!(nobody, Err(ImageError::Unreachable { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn a_pull_survives_a_network_that_breaks() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let (registry, store, image) = (Registry::start(false), Store::new(), image());
    registry.push(&single(&store, &image), "app:1", &[]);
    let piece = image.layers[0].len() as u64 / 3;
    let weak = weak_network(registry.address, piece).await;
    check(&pull(&store, &format!("{weak}/app:1")).await.unwrap());
}

/// Each connection through it breaks once so many bytes came back.
async fn weak_network(to: SocketAddr, most: u64) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(far) = tokio::net::TcpStream::connect(to).await else {
                    return;
                };
                let (near_read, mut near_write) = near.into_split();
                let (far_read, mut far_write) = far.into_split();
                let mut back = far_read.take(most);
                let mut there = near_read;
                tokio::select! {
                    _ = tokio::io::copy(&mut back, &mut near_write) => {}
                    _ = tokio::io::copy(&mut there, &mut far_write) => {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn what_podman_saves_is_imported() {
    if !have(&["podman"]) || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: it needs podman and root");
        return;
    }
    let store = Store::new();
    let folder = store.folder.path().display().to_string();
    let podman = |args: &[&str]| {
        let (root, run_root) = (format!("{folder}/root"), format!("{folder}/run"));
        let own = [
            "--root",
            &root,
            "--runroot",
            &run_root,
            "--storage-driver",
            "vfs",
        ];
        run(
            "podman",
            &[&own[..], &["--cgroup-manager", "cgroupfs"], args].concat(),
        );
    };
    let saved = store.write("in.tar", &archive(&image().docker_save()));
    podman(&["load", "--quiet", "--input", &saved.display().to_string()]);
    for format in ["docker-archive", "oci-archive"] {
        let out = format!("{folder}/{format}.tar");
        podman(&[
            "save",
            "--quiet",
            "--format",
            format,
            "--output",
            &out,
            "demo:latest",
        ]);
        let got = store.images.import_archive(&out, format, Progress::none());
        check(&got.await.unwrap());
    }
    assert_eq!(store.layers().len(), 2, "both are the same image");
    assert_eq!(store.leftovers(), Vec::<String>::new());
}
