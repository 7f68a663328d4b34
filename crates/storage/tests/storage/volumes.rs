//! What holds for volumes on every rung of the ladder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::common::{MIB, me, on_each_tier, volume};
use nix::sys::stat::{Mode, SFlag, mknod};
use skerry_storage::{Options, Storage, StorageError, Tier};
use skerry_types::SandboxId;
use tempfile::TempDir;

#[test]
fn a_volume_lives_forks_and_dies_alone() {
    on_each_tier(|storage| {
        let (parent, child) = (SandboxId::new(), SandboxId::new());
        let made = storage.create(parent, 64 * MIB, (1234, 4321)).unwrap();
        for folder in [made.path().to_owned(), made.upper(), made.work()] {
            let stat = fs::metadata(&folder).unwrap();
            assert_eq!(
                (stat.uid(), stat.gid(), stat.mode() & 0o7777),
                (1234, 4321, 0o755)
            );
        }
        fs::write(made.upper().join("kept"), "before").unwrap();
        fs::write(made.work().join("of the parent's overlay"), "").unwrap();

        let forked = storage.fork(parent, child, 64 * MIB, (1234, 4321)).unwrap();
        assert_eq!(fs::read_dir(forked.work()).unwrap().count(), 0);
        fs::write(made.upper().join("kept"), "parent").unwrap();
        fs::write(forked.upper().join("own"), "child").unwrap();
        assert_eq!(
            fs::read_to_string(forked.upper().join("kept")).unwrap(),
            "before"
        );
        assert!(!made.upper().join("own").exists());

        let taken = storage.create(child, MIB, me());
        assert!(matches!(taken, Err(StorageError::Exists(id)) if id == child));
        assert_eq!(sorted(storage), [parent, child]);
        storage.destroy(parent).unwrap();
        storage.destroy(parent).unwrap();
        let gone = storage.fork(parent, SandboxId::new(), MIB, me());
        assert!(matches!(gone, Err(StorageError::Missing(id)) if id == parent));
        assert_eq!(
            (storage.get(parent), storage.get(child)),
            (None, Some(forked.clone()))
        );
        assert_eq!(
            fs::read_to_string(forked.upper().join("kept")).unwrap(),
            "before"
        );
        assert_eq!(sorted(storage), [child]);
    });
}

#[test]
fn a_fork_of_ten_thousand_files_is_equal() {
    on_each_tier(|storage| {
        let (parent, upper) = volume(storage);
        for folder in 0..100 {
            let folder = upper.join(format!("folder{folder}"));
            fs::create_dir(&folder).unwrap();
            for file in 0..100 {
                fs::write(folder.join(format!("file{file}")), format!("{file}\n")).unwrap();
            }
        }
        make_odd_files(&upper);
        let child = storage
            .fork(parent, SandboxId::new(), 512 * MIB, me())
            .unwrap();
        let (mine, theirs) = (describe(&upper), describe(&child.upper()));
        assert!(mine.len() > 10_000);
        let differ: Vec<_> = mine.symmetric_difference(&theirs).collect();
        assert!(differ.is_empty(), "{differ:#?}");
        let hole = fs::metadata(child.upper().join("sparse")).unwrap();
        assert!(hole.blocks() * 512 < MIB, "holes stay holes");
    });
}

#[test]
fn what_a_sandbox_made_deep_or_unreadable_goes_all_the_same() {
    let data = TempDir::new().unwrap();
    let options = Options {
        prefer: Some(Tier::Copy),
        ..Options::default()
    };
    let storage = Storage::open(data.path(), &options).unwrap();
    let (id, upper) = volume(&storage);
    nest(&upper, 3000);
    let fork = storage.fork(id, SandboxId::new(), MIB, me());
    assert!(
        matches!(fork, Err(StorageError::Fork { .. })),
        "deeper than a walk goes"
    );
    storage.destroy(id).unwrap();
    drop(storage);
    // A store that ends leaves the rest, and one that starts finds it.
    let _again = Storage::open(data.path(), &options).unwrap();
    while fs::read_dir(data.path().join("trash")).unwrap().count() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(
        fs::read_dir(data.path().join("staging")).unwrap().count(),
        0
    );
}

#[test]
fn a_data_folder_has_one_owner() {
    let data = TempDir::new().unwrap();
    let options = Options {
        prefer: Some(Tier::Copy),
        ..Options::default()
    };
    let first = Storage::open(data.path(), &options).unwrap();
    let second = Storage::open(data.path(), &options);
    assert!(matches!(second, Err(StorageError::InUse { .. })));
    drop(first);
    Storage::open(data.path(), &options).unwrap();
}

fn sorted(storage: &Storage) -> Vec<SandboxId> {
    let mut ids = storage.list().unwrap();
    ids.sort();
    ids
}

fn make_odd_files(upper: &Path) {
    fs::write(upper.join("two names"), "one file").unwrap();
    fs::hard_link(upper.join("two names"), upper.join("folder7/other name")).unwrap();
    symlink("/etc/../no such", upper.join("link")).unwrap();
    let sparse = File::create(upper.join("sparse")).unwrap();
    sparse.set_len(100 * MIB).unwrap();
    sparse.write_at(b"in the middle", 50 * MIB).unwrap();
    fs::write(upper.join("program"), "#!").unwrap();
    fs::set_permissions(upper.join("folder8"), fs::Permissions::from_mode(0o1700)).unwrap();
    mknod(&upper.join("deleted"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    mknod(&upper.join("pipe"), SFlag::S_IFIFO, Mode::S_IRWXU, 0).unwrap();
    rustix::fs::setxattr(
        upper.join("folder9"),
        "user.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    std::os::unix::fs::chown(upper.join("program"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(upper.join("program"), fs::Permissions::from_mode(0o4750)).unwrap();
}

/// One line for each entry: all that a program could see of it, but for inode numbers.
fn describe(top: &Path) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let content = match stat.file_type() {
                kind if kind.is_file() => format!("{:x}", sum(&fs::read(&path).unwrap())),
                kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
                kind if kind.is_dir() => {
                    folders.push(path.clone());
                    let mut value = [0; 64];
                    let xattr = rustix::fs::getxattr(&path, "user.overlay.opaque", &mut value[..]);
                    format!("{:?}", xattr.map(|len| value[..len].to_vec()))
                }
                _ => format!("device {}", stat.rdev()),
            };
            let links = if stat.is_dir() { 0 } else { stat.nlink() };
            lines.insert(format!(
                "{:?} {:o} {}:{} {} links {}.{} {}",
                path.strip_prefix(top).unwrap(),
                stat.mode(),
                stat.uid(),
                stat.gid(),
                links,
                stat.mtime(),
                stat.mtime_nsec(),
                content
            ));
        }
    }
    lines
}

fn sum(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// `depth` folders in each other, deeper than a path can say.
fn nest(top: &Path, depth: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let mut at = File::open(top).unwrap();
    for _ in 0..depth {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .unwrap()
            .into();
    }
}
