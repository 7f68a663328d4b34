//! What the store knows, who keeps it from forgetting, and what it leaves after interruptions.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::mpsc;
use std::time::Duration;

use crate::common::{Store, Tar, TestImage, archive};
use skerry_image::{HOST, ImageError, Images, Kind, Phase, Progress};

#[test]
fn host_is_a_clean_skeleton_over_the_machines_usr() {
    let store = Store::new();
    let image = store.images.resolve(HOST).unwrap();
    assert_eq!(image.kind, Kind::Host);
    assert!(
        image
            .binds
            .iter()
            .any(|bind| bind.source == std::path::Path::new("/usr"))
    );
    assert!(image.binds.iter().all(|bind| bind.read_only));
    let root = &image.layers[0];
    for bind in &image.binds {
        assert!(root.join(bind.target.strip_prefix("/").unwrap()).is_dir());
    }
    assert_eq!(
        crate::common::names(&root.join("usr")),
        Vec::<String>::new()
    );
    assert_eq!(crate::common::names(&root.join("home")), ["user"]);
    assert_eq!(
        crate::common::names(&root.join("root")),
        Vec::<String>::new()
    );
    assert_eq!(
        crate::common::names(&root.join("var/lib")),
        Vec::<String>::new()
    );
    for secret in [
        "shadow",
        "gshadow",
        "sudoers",
        "machine-id",
        "hostname",
        "ssh",
        "ssl/private",
    ] {
        assert!(!root.join("etc").join(secret).exists(), "{secret}");
    }
    let tmp = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
    if rustix::process::geteuid().is_root() {
        assert_eq!(fs::metadata(root.join("home/user")).unwrap().uid(), 1000);
        assert_eq!(image.config.user, "user");
    } else {
        assert_eq!(image.config.user, "root");
    }
    let own = fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert_eq!(own.lines().count(), 4, "none of the host's users: {own}");
}

#[test]
fn host_is_made_once() {
    let store = Store::new();
    let first = store.images.resolve(HOST).unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &first,
        &store.images.resolve(HOST).unwrap()
    ));
    let reopened = Images::open(store.folder.path()).unwrap();
    assert_eq!(reopened.resolve(HOST).unwrap(), first);
}

#[test]
fn the_store_is_closed_to_other_users() {
    let store = Store::new();
    let mode = fs::metadata(store.folder.path().join("images"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn an_unknown_name_tells_what_there_is() {
    let store = Store::new();
    add(&store, "mine", b"1").await;
    let error = store
        .images
        .ensure("nope", Progress::none())
        .await
        .unwrap_err();
    let hint = error.hint().unwrap();
    assert!(matches!(error, ImageError::Unknown { .. }));
    assert!(hint.contains("host") && hint.contains("base") && hint.contains("mine:latest"));
    assert!(hint.contains("skerry image pull nope"));
}

/// An image of two layers, of which all that `add` makes share the lower.
async fn add(store: &Store, name: &str, content: &[u8]) -> std::sync::Arc<skerry_image::Image> {
    let lower = Tar::new().folder("usr").done();
    let upper = Tar::new().file("usr/content", content).done();
    let files = TestImage::new(vec![lower, upper]).docker_save();
    let path = store.write("add.tar", &archive(&files));
    store
        .images
        .import_archive(&path, name, Progress::none())
        .await
        .unwrap()
}

#[tokio::test]
async fn images_outlive_the_process() {
    let store = Store::new();
    let image = add(&store, "kept:1", b"1").await;
    let reopened = Images::open(store.folder.path()).unwrap();
    assert_eq!(reopened.resolve("kept:1").unwrap(), image);
    assert_eq!(reopened.resolve(&image.id.to_string()).unwrap(), image);
}

#[tokio::test]
async fn a_damaged_record_does_not_hide_the_others() {
    let store = Store::new();
    add(&store, "kept", b"1").await;
    fs::write(store.folder.path().join("images/index/bad.json"), b"{").unwrap();
    let reopened = Images::open(store.folder.path()).unwrap();
    assert!(reopened.resolve("kept").is_ok());
}

#[tokio::test]
async fn removal_waits_for_holders_and_spares_shared_layers() {
    let store = Store::new();
    let one = add(&store, "one", b"1").await;
    let two = add(&store, "two", b"2").await;
    assert_eq!(store.layers().len(), 3);

    let hold = store.images.hold(&one).unwrap();
    let second = store.images.hold(&one).unwrap();
    assert_eq!(store.images.inspect("one").unwrap().1, 2);
    drop(second);
    let refused = store.images.remove("one", |_| None);
    assert!(matches!(refused, Err(ImageError::InUse { .. })));
    drop(hold);
    let refused = store
        .images
        .remove("one", |_| Some("a template".to_owned()));
    assert!(matches!(refused, Err(ImageError::InUse { .. })));
    assert!(one.layers.iter().all(|layer| layer.is_dir()));

    store.images.remove("one", |_| None).unwrap();
    assert!(store.images.resolve("one").is_err());
    assert!(two.layers.iter().all(|layer| layer.is_dir()));
    assert_eq!(store.layers().len(), 2);
    store.images.remove("two", |_| None).unwrap();
    assert_eq!(store.layers().len(), 0);
    let late = store.images.hold(&two);
    assert!(
        matches!(late, Err(ImageError::Gone { .. })),
        "a hold is proof of the layers"
    );
}

/// Its name means something else by now, but a sandbox still runs on the old content.
#[tokio::test]
async fn held_layers_stay_when_their_name_moves_on() {
    let store = Store::new();
    let old = add(&store, "app", b"1").await;
    let hold = store.images.hold(&old).unwrap();
    let new = add(&store, "app", b"2").await;
    assert_ne!(old.id, new.id);
    assert_eq!(store.images.collect().unwrap(), 0);
    assert!(old.layers[1].is_dir());
    drop(hold);
    assert_eq!(store.images.collect().unwrap(), 1);
    assert!(!old.layers[1].is_dir());
}

#[tokio::test]
async fn the_same_content_again_is_the_same_image() {
    let store = Store::new();
    let first = add(&store, "app", b"1").await;
    assert_eq!(add(&store, "app", b"1").await.id, first.id);
}

/// The caller goes away while a thread unpacks: the thread stops and clears up after itself.
#[test]
fn an_abandoned_import_leaves_a_usable_store() {
    let store = Store::new();
    let path = store.write(
        "big.tar",
        &Tar::new().file("usr/big", &vec![1; 16 << 20]).done(),
    );
    let (reached, wait) = mpsc::channel();
    let (resume, paused) = mpsc::channel::<()>();
    let paused = parking_lot::Mutex::new(paused);
    let progress = Progress::new(move |update| {
        if update.phase == Phase::Unpacking && update.done_bytes > 1 << 20 {
            let _ = reached.send(());
            let _ = paused.lock().recv_timeout(Duration::from_secs(30));
        }
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let images = store.images.clone();
    let source = path.clone();
    let import = runtime.spawn(async move { images.import_archive(source, "big", progress).await });
    wait.recv_timeout(Duration::from_secs(30)).unwrap();
    import.abort();
    assert!(runtime.block_on(import).unwrap_err().is_cancelled());
    drop(resume);
    // Waits for the thread.
    drop(runtime);
    assert_eq!(store.leftovers(), Vec::<String>::new());
    assert_eq!(store.layers(), Vec::<String>::new());

    let again = store.images.import_archive(&path, "big", Progress::none());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert!(runtime.block_on(again).is_ok());
}

/// What a killed process leaves in the work folder is gone after the next start.
#[test]
fn a_crash_is_cleared_away_at_start() {
    let store = Store::new();
    let left = store.folder.path().join("images/work/half/usr");
    fs::create_dir_all(&left).unwrap();
    let _reopened = Images::open(store.folder.path()).unwrap();
    assert_eq!(store.leftovers(), Vec::<String>::new());
}

#[test]
fn host_comes_back_when_it_is_removed() {
    let store = Store::new();
    let first = store.images.resolve(HOST).unwrap();
    store.images.remove(HOST, |_| None).unwrap();
    let second = store.images.resolve(HOST).unwrap();
    assert!(second.layers[0].join("etc/passwd").exists());
    assert_ne!(first.id, second.id);
}
