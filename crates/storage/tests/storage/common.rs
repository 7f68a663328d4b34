//! Places to test storage in: a temporary folder, and a thread with mounts of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use skerry_storage::{Options, Storage, Tier};
use skerry_sys::loopdev::LoopDevice;
use skerry_types::SandboxId;
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const POOL_BYTES: u64 = 1024 * MIB;

/// Runs `body` in a thread whose mounts the machine does not see; false, loudly, where that is not allowed.
pub(crate) fn with_own_mounts<T: Send>(body: impl FnOnce() -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root, to mount in a namespace of its own");
        return None;
    }
    let run = || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        body()
    };
    let end = std::thread::scope(|scope| scope.spawn(run).join());
    Some(end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs `body` with a store on each rung that this machine has, and says which ones it has not.
pub(crate) fn on_each_tier(body: impl Fn(&Storage) + Send + Sync) {
    with_own_mounts(|| on_pool(&body));
    with_own_mounts(|| on_reflink(&body));
    let data = TempDir::new().unwrap();
    let options = Options {
        prefer: Some(Tier::Copy),
        ..Options::default()
    };
    let storage = Storage::open(data.path(), &options).unwrap();
    assert_eq!(storage.tier(), Tier::Copy);
    body(&storage);
}

/// A store in a pool of a bounded size, or nothing where there can be none.
pub(crate) fn open_pool(data: &Path) -> Option<Storage> {
    open_with(data, Some(POOL_BYTES))
}

/// The same without a bound.
pub(crate) fn open_any_pool(data: &Path) -> Option<Storage> {
    open_with(data, None)
}

fn open_with(data: &Path, max_bytes: Option<u64>) -> Option<Storage> {
    let options = Options {
        max_bytes,
        prefer: None,
    };
    let storage = Storage::open(data, &options).unwrap();
    if storage.tier() == Tier::Btrfs {
        return Some(storage);
    }
    eprintln!(
        "SKIPPED the btrfs pool: {}",
        storage.facts().unwrap().why_not_better.unwrap()
    );
    None
}

fn on_pool(body: &(impl Fn(&Storage) + Send + Sync)) {
    let data = TempDir::new().unwrap();
    if let Some(storage) = open_pool(data.path()) {
        body(&storage);
        drop(storage);
        assert_nothing_attached(data.path());
    }
}

fn on_reflink(body: &(impl Fn(&Storage) + Send + Sync)) {
    let folder = TempDir::new().unwrap();
    let (image, data) = (folder.path().join("xfs.img"), folder.path().join("data"));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&image)
        .unwrap();
    file.set_len(POOL_BYTES).unwrap();
    let made = Command::new("/usr/sbin/mkfs.xfs")
        .arg("-q")
        .arg(&image)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED the reflink tier: no mkfs.xfs");
        return;
    }
    let device = LoopDevice::attach(&file).unwrap();
    fs::create_dir(&data).unwrap();
    mount(
        Some(device.path()),
        &data,
        Some("xfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let options = Options {
        prefer: Some(Tier::Reflink),
        ..Options::default()
    };
    let storage = Storage::open(&data, &options).unwrap();
    assert_eq!(storage.tier(), Tier::Reflink);
    body(&storage);
    drop(storage);
    nix::mount::umount(&data).unwrap();
}

/// The loop devices on `data`'s pool, by what the kernel says of all.
pub(crate) fn attached(data: &Path) -> usize {
    let image = data.canonicalize().unwrap().join("pool.img");
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let backing =
        devices.filter_map(|d| fs::read_to_string(d.path().join("loop/backing_file")).ok());
    backing
        .filter(|file| Path::new(file.trim()) == image)
        .count()
}

/// Whoever looks for a device of its own holds each of the others for a moment, also in a test beside this one.
pub(crate) fn assert_detached(data: &Path) {
    wait(|| attached(data) == 0);
}

pub(crate) fn assert_nothing_attached(data: &Path) {
    assert_detached(data);
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    assert!(!mounts.contains(data.to_str().unwrap()), "a mount is left");
}

/// This user and group: who owns volumes in tests.
pub(crate) fn me() -> (u32, u32) {
    (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    )
}

/// A new volume with room; its id and upper folder.
pub(crate) fn volume(storage: &Storage) -> (SandboxId, PathBuf) {
    let id = SandboxId::new();
    (id, storage.create(id, 512 * MIB, me()).unwrap().upper())
}

pub(crate) fn wait(mut until: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !until() {
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}
