//! Images from archives and folders, and what their layers look like once they are unpacked.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::common::{Store, Tar, TestImage, archive, gzip, spread, zstd};
use skerry_image::{Image, ImageError, Kind, Progress};
use tar::EntryType;

fn two_layers() -> TestImage {
    let lower = Tar::new()
        .folder("etc")
        .file("etc/kept", b"kept")
        .file("etc/gone", b"gone")
        .folder("data")
        .file("data/old", b"old");
    let upper = Tar::new()
        .file("etc/.wh.gone", b"")
        .folder("data")
        .file("data/.wh..wh..opq", b"")
        .file("data/new", b"new")
        .file_mode("bin/su", b"#!", 0o4755)
        .hardlink("bin/su2", "bin/su")
        .symlink("bin/sh", "/usr/bin/../bin/su");
    TestImage::new(vec![lower.done(), upper.done()])
}

fn layer(image: &Image, at: usize, path: &str) -> std::path::PathBuf {
    image.layers[at].join(path)
}

fn check_two_layers(image: &Image) {
    assert_eq!(image.kind, Kind::Oci);
    assert_eq!(image.layers.len(), 2);
    assert_eq!(fs::read(layer(image, 0, "etc/gone")).unwrap(), b"gone");
    let whiteout = fs::symlink_metadata(layer(image, 1, "etc/gone")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let opaque = xattr::get(layer(image, 1, "data"), "user.overlay.opaque").unwrap();
    assert_eq!(opaque.as_deref(), Some(b"y".as_slice()));
    let su = fs::metadata(layer(image, 1, "bin/su")).unwrap();
    assert_eq!((su.permissions().mode() & 0o7777, su.nlink()), (0o4755, 2));
    let link = fs::read_link(layer(image, 1, "bin/sh")).unwrap();
    assert_eq!(link, Path::new("/usr/bin/../bin/su"));
    assert_eq!(image.config.user, "app:staff");
    assert_eq!(image.config.workdir, "/srv/app");
    assert_eq!(image.config.entrypoint, ["/entry"]);
    assert_eq!(image.config.cmd, ["go"]);
    assert!(
        image
            .config
            .env
            .contains(&("B".to_owned(), "x=y".to_owned()))
    );
    assert!(image.config.env.iter().any(|(name, _)| name == "PATH"));
}

#[tokio::test]
async fn every_container_and_compression_gives_the_same_image() {
    let image = two_layers();
    let saved = archive(&image.docker_save());
    let layout = archive(&image.oci_layout());
    let forms = [
        ("saved", saved.clone()),
        ("saved-gz", gzip(&saved)),
        ("saved-zst", zstd(&saved)),
        ("oci", layout.clone()),
        ("oci-gz", gzip(&layout)),
        ("oci-zst", zstd(&layout)),
    ];
    let store = Store::new();
    for (name, bytes) in forms {
        let path = store.write(name, &bytes);
        let image = store
            .images
            .import_archive(&path, name, Progress::none())
            .await
            .unwrap();
        check_two_layers(&image);
        assert_eq!(store.images.resolve(name).unwrap(), image);
    }
    let folder = store.folder.path().join("layout");
    spread(&image.oci_layout(), &folder);
    let image = store
        .images
        .import_folder(&folder, "folder:1.0", Progress::none())
        .await
        .unwrap();
    check_two_layers(&image);
    assert_eq!(store.layers().len(), 2, "layers are shared");
    assert_eq!(store.leftovers(), Vec::<String>::new());
}

/// The kernel itself says what the stack shows, mounted as the drivers mount it.
#[tokio::test]
async fn whiteouts_hide_in_a_real_overlay() {
    let store = Store::new();
    let path = store.write("saved.tar", &archive(&two_layers().docker_save()));
    let image = store
        .images
        .import_archive(&path, "stack", Progress::none())
        .await
        .unwrap();
    let script = format!(
        "mount -t overlay overlay -o userxattr,lowerdir={}:{} /mnt && cd /mnt && find . -type f | sort",
        image.layers[1].display(),
        image.layers[0].display(),
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let shown: Vec<_> = shown.lines().collect();
    assert_eq!(shown, ["./bin/su", "./bin/su2", "./data/new", "./etc/kept"]);
}

#[tokio::test]
async fn entries_keep_what_they_may_keep() {
    let long = format!("usr/{}/{}", "d".repeat(120), "f".repeat(200));
    let mut tar = Tar::new()
        .folder("usr")
        .file(&long, b"long")
        .pax(&[
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
        ])
        .file("usr/noted", b"")
        .raw(EntryType::Fifo, b"usr/pipe", b"")
        .file("usr/twice", b"first")
        .file("usr/twice", b"second")
        .folder("dev")
        .file("usr/.wh.fresh", b"")
        .folder("usr/fresh")
        .done();
    let mut node = crate::common::header(EntryType::Char, 0o666);
    node.set_device_major(1).unwrap();
    node.set_device_minor(3).unwrap();
    node.set_path("dev/null").unwrap();
    node.set_cksum();
    tar.truncate(tar.len() - 1024);
    tar.extend_from_slice(node.as_bytes());
    tar.extend_from_slice(&[0; 1024]);

    let store = Store::new();
    let path = store.write("root.tar", &zstd(&tar));
    let image = store
        .images
        .import_archive(&path, "root", Progress::none())
        .await
        .unwrap();
    let place = |path: &str| layer(&image, 0, path);
    assert_eq!(fs::read(place(&long)).unwrap(), b"long");
    let noted: Vec<_> = xattr::list(place("usr/noted")).unwrap().collect();
    assert_eq!(noted, ["user.note"]);
    assert!(
        fs::symlink_metadata(place("usr/pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert_eq!(fs::read(place("usr/twice")).unwrap(), b"second");
    assert!(!place("dev/null").exists(), "the sandbox has its own /dev");
    let fresh = xattr::get(place("usr/fresh"), "user.overlay.opaque").unwrap();
    assert_eq!(fresh.as_deref(), Some(b"y".as_slice()));
    assert_eq!(
        fs::metadata(place("usr/noted")).unwrap().mtime(),
        1_000_000_000
    );
    assert_eq!(fs::metadata(place("usr")).unwrap().mtime(), 1_000_000_000);
}

#[tokio::test]
async fn a_folder_of_a_system_becomes_one_layer() {
    let store = Store::new();
    let source = store.folder.path().join("rootfs");
    fs::create_dir_all(source.join("usr/bin")).unwrap();
    fs::write(source.join("usr/bin/tool"), b"tool").unwrap();
    fs::hard_link(source.join("usr/bin/tool"), source.join("usr/bin/tool2")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", source.join("usr/link")).unwrap();
    xattr::set(source.join("usr/bin/tool"), "user.note", b"kept").unwrap();
    let sparse = fs::File::create(source.join("usr/sparse")).unwrap();
    sparse.set_len(16 * 1024 * 1024).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("usr/socket")).unwrap();

    let image = store
        .images
        .import_folder(&source, "sys", Progress::none())
        .await
        .unwrap();
    let place = |path: &str| layer(&image, 0, path);
    assert_eq!(fs::metadata(place("usr/bin/tool2")).unwrap().nlink(), 2);
    assert_eq!(
        xattr::get(place("usr/bin/tool"), "user.note")
            .unwrap()
            .unwrap(),
        b"kept"
    );
    assert_eq!(
        fs::read_link(place("usr/link")).unwrap(),
        Path::new("/etc/passwd")
    );
    let sparse = fs::metadata(place("usr/sparse")).unwrap();
    assert_eq!(sparse.len(), 16 * 1024 * 1024);
    assert!(sparse.blocks() < 1024, "holes stay holes");
    assert!(fs::symlink_metadata(place("usr/socket")).is_err());
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused() {
    let image = two_layers();
    let mut swapped = image.docker_save();
    swapped.insert(
        "0/layer.tar".to_owned(),
        Tar::new().file("usr/evil", b"").done(),
    );
    let mut missing = image.docker_save();
    missing.remove("1/layer.tar");
    let mut blob = image.oci_layout();
    let name = format!(
        "blobs/{}",
        crate::common::sha256(&image.layers[0]).replace(':', "/")
    );
    blob.insert(name, gzip(b"something else"));
    let other = TestImage::with_arch(image.tars.clone(), "s390x").docker_save();
    let cases = [
        ("swapped layer", swapped),
        ("missing layer", missing),
        ("changed blob", blob),
        ("other machine", other),
    ];
    for (name, files) in cases {
        let store = Store::new();
        let path = store.write("bad.tar", &archive(&files));
        let error = store
            .images
            .import_archive(&path, "bad", Progress::none())
            .await
            .unwrap_err();
        let as_expected = match name {
            "swapped layer" | "changed blob" => matches!(error, ImageError::Digest { .. }),
            "missing layer" => matches!(error, ImageError::Malformed { .. }),
            _ => matches!(error, ImageError::Platform { .. }),
        };
        assert!(as_expected, "{name}: {error:?}");
        assert_eq!(store.leftovers(), Vec::<String>::new());
        assert!(store.images.resolve("bad").is_err());
    }
}

/// A layer that is a pipe, or a link out of the archive, neither hangs nor reads the host.
#[tokio::test]
async fn an_archive_whose_files_are_not_files_is_refused() {
    let store = Store::new();
    let image = two_layers();
    for trick in [
        Tar::new().raw(EntryType::Fifo, b"0/layer.tar", b""),
        Tar::new().symlink("0/layer.tar", "/etc/hostname"),
        Tar::new().symlink("0/layer.tar", "../../../../../../../../etc/hostname"),
    ] {
        let mut files = image.docker_save();
        files.remove("0/layer.tar");
        let tar = files
            .iter()
            .fold(trick, |tar, (name, bytes)| tar.file(name, bytes));
        let path = store.write("trick.tar", &tar.done());
        let error = store
            .images
            .import_archive(&path, "trick", Progress::none())
            .await
            .unwrap_err();
        assert!(matches!(error, ImageError::Malformed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn names_of_local_images_are_checked() {
    let store = Store::new();
    let path = store.write("root.tar", &Tar::new().folder("usr").done());
    for name in [
        "host", "base", "base:2", "", "Upper", "../x", "a//b", "a:b:c", "x:-",
    ] {
        let result = store
            .images
            .import_archive(&path, name, Progress::none())
            .await;
        assert!(
            matches!(result, Err(ImageError::BadReference { .. })),
            "{name}"
        );
    }
}
