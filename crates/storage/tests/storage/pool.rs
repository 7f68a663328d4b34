//! What holds for the btrfs pool: limits, restarts, kills, growth and giving back.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{
    MIB, POOL_BYTES, assert_detached, assert_nothing_attached, attached, me, open_any_pool,
    open_pool, volume, wait, with_own_mounts,
};
use nix::mount::{MsFlags, mount, umount};
use skerry_storage::{Options, Storage, StorageError, Tier, Volume};
use skerry_types::SandboxId;
use tempfile::TempDir;

/// Set in a process that a test started, to what it should do.
const ROLE: &str = "SKERRY_STORAGE_TEST_ROLE";
const DATA: &str = "SKERRY_STORAGE_TEST_DATA";

#[test]
fn a_disk_filler_meets_its_own_limit_only() {
    with_own_mounts(|| {
        let data = TempDir::new().unwrap();
        let Some(storage) = open_pool(data.path()) else {
            return;
        };
        if !storage.facts().unwrap().disk_quota {
            eprintln!("SKIPPED: this kernel has no btrfs quotas");
            return;
        }
        let limit = 64 * MIB;
        let near_limit = limit / 2..=limit;
        let (parent, child, other) = (SandboxId::new(), SandboxId::new(), SandboxId::new());
        let first = storage.create(parent, limit, me()).unwrap();
        let other = storage.create(other, limit, me()).unwrap();
        let wrote = fill_overlay(&first, data.path());
        assert!(near_limit.contains(&wrote), "parent wrote {wrote}");
        fs::write(other.upper().join("file"), vec![1; 8 << 20]).unwrap();

        let forked = storage.fork(parent, child, limit, me()).unwrap();
        let wrote = fill_overlay(&forked, data.path());
        assert!(near_limit.contains(&wrote), "child wrote {wrote}");
        storage.settle(child).unwrap();
        let used = storage.usage(child).unwrap();
        assert!(near_limit.contains(&used), "child uses {used}");
        storage.destroy(parent).unwrap();

        // With what it began with it has twice its limit; once much of that is gone there is room again.
        let [third, fourth] = [SandboxId::new(), SandboxId::new()];
        let full = storage.fork(child, third, limit, me()).unwrap();
        let wrote = fill_overlay(&full, data.path());
        assert!(wrote <= limit / 4, "a copy of what is full wrote {wrote}");
        for fill in ["fill", "fill1"] {
            fs::remove_file(full.upper().join(fill)).unwrap();
        }
        let emptied = storage.fork(third, fourth, limit, me()).unwrap();
        let wrote = fill_overlay(&emptied, data.path());
        assert!(
            near_limit.contains(&wrote),
            "what was emptied wrote {wrote}"
        );
        fs::write(other.upper().join("more"), vec![1; 8 << 20]).unwrap();
        assert!(forked.upper().join("fill").exists());
    });
}

#[test]
fn a_restart_meets_the_pool_that_a_sandbox_still_holds() {
    let data = TempDir::new().unwrap();
    with_own_mounts(|| {
        let Some(storage) = open_pool(data.path()) else {
            return;
        };
        let (id, upper) = volume(&storage);
        // The file keeps the first mount alive, as a running sandbox does.
        let mut held = File::create(upper.join("log")).unwrap();
        drop(storage);
        with_own_mounts(|| {
            let again = open_pool(data.path()).unwrap();
            assert_eq!(attached(data.path()), 1);
            held.write_all(b"still here").unwrap();
            let log = again.get(id).unwrap().upper().join("log");
            assert_eq!(fs::read_to_string(log).unwrap(), "still here");
        });
        assert_eq!(attached(data.path()), 1, "the sandbox has it yet");
        drop(held);
        assert_nothing_attached(data.path());
    });
}

#[test]
fn volumes_are_whole_whenever_the_process_is_killed() {
    let data = TempDir::new().unwrap();
    for steps in [1, 7, 40, 150] {
        let mut busy = role("busy", data.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(busy.stdout.take().unwrap()).lines();
        let said: Vec<String> = lines
            .map(Result::unwrap)
            .filter(|l| l.starts_with("step"))
            .take(steps)
            .collect();
        busy.kill().unwrap();
        busy.wait().unwrap();
        if said.is_empty() {
            eprintln!("SKIPPED: no pool here");
            return;
        }
        with_own_mounts(|| {
            let storage = open_pool(data.path()).unwrap();
            for id in storage.list().unwrap() {
                let volume = storage.get(id).unwrap();
                assert_eq!(
                    fs::read(volume.upper().join("whole"))
                        .unwrap_or_default()
                        .len()
                        % 4096,
                    0
                );
                assert_eq!(fs::read_dir(volume.work()).unwrap().count(), 0);
                storage.destroy(id).unwrap();
            }
            assert_eq!(storage.list().unwrap(), []);
            let staging = storage.facts().unwrap().path.join("staging");
            assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
            storage.check().unwrap();
        });
        assert_nothing_attached(data.path());
    }
}

#[test]
fn the_pool_grows_with_what_is_written_and_gives_back() {
    on_small_disk(2048, |data| {
        let Some(storage) = open_any_pool(data) else {
            return;
        };
        let image = data.join("pool.img");
        let (id, upper) = volume(&storage);
        let sizes = || {
            let file = fs::metadata(&image).unwrap();
            let total = storage.facts().unwrap().total_bytes;
            assert!(file.blocks() * 512 >= total, "it has holes");
            total
        };
        assert!(sizes() < 512 * MIB);
        fs::write(upper.join("large"), vec![7; 480 << 20]).unwrap();
        storage.settle(id).unwrap();
        wait(|| sizes() > 550 * MIB);
        storage.destroy(id).unwrap();
        wait(|| fs::metadata(&image).unwrap().blocks() * 512 < 512 * MIB);
        volume(&storage);
        storage.check().unwrap();
    });
}

#[test]
fn room_that_was_promised_beside_the_pool_is_nobody_else_s() {
    on_small_disk(1024, |data| {
        let Some(storage) = open_any_pool(data) else {
            return;
        };
        let room = storage.room(300 * MIB).unwrap();
        let refused = storage.room(300 * MIB);
        assert!(
            matches!(refused, Err(StorageError::DiskFull { .. })),
            "{refused:?}"
        );
        drop(room);
        let _room = storage.room(300 * MIB).unwrap();
        let (_, upper) = volume(&storage);
        fill(&mut File::create(upper.join("greedy")).unwrap());
        let beside = storage.folder_beside("images").unwrap();
        fs::write(beside.join("image"), vec![1; 300 << 20]).unwrap();
        let disk = rustix::fs::statvfs(data).unwrap();
        assert!(disk.f_bavail * disk.f_frsize >= 250 * MIB);
    });
}

#[test]
fn a_disk_that_others_fill_breaks_no_promise() {
    on_small_disk(1024, |data| {
        let Some(storage) = open_any_pool(data) else {
            return;
        };
        let (id, upper) = volume(&storage);
        let kept: Vec<u8> = (0..20 << 20).map(|n: u32| (n >> 7) as u8).collect();
        fs::write(upper.join("kept"), &kept).unwrap();
        let ballast = data.join("ballast");
        fill(&mut File::create(&ballast).unwrap());
        // What the pool had before is all there; then it is full, and no more than that.
        fs::write(upper.join("promised"), vec![3; 64 << 20]).unwrap();
        let mut greedy = File::create(upper.join("greedy")).unwrap();
        fill(&mut greedy);
        let refused = storage.create(SandboxId::new(), MIB, me());
        assert!(
            matches!(refused, Err(StorageError::DiskFull { .. })),
            "{refused:?}"
        );
        let full = storage.check();
        assert!(
            matches!(full, Err(StorageError::DiskFull { .. })),
            "{full:?}"
        );
        drop(greedy);
        drop(storage);

        let storage = open_any_pool(data).unwrap();
        assert!(fs::read(upper.join("kept")).unwrap() == kept);
        assert!(fs::read(upper.join("promised")).unwrap() == vec![3; 64 << 20]);
        fs::remove_file(&ballast).unwrap();
        wait(|| storage.create(SandboxId::new(), MIB, me()).is_ok());
        fs::write(upper.join("more"), vec![4; 100 << 20]).unwrap();
        storage.destroy(id).unwrap();
        storage.check().unwrap();
    });
}

#[test]
fn a_pool_that_the_kernel_closed_opens_again_whole_once_nobody_holds_it() {
    on_small_disk(1024, |data| {
        let Some(storage) = open_any_pool(data) else {
            return;
        };
        let (id, upper) = volume(&storage);
        fs::write(upper.join("file"), "kept").unwrap();
        storage.settle(id).unwrap();
        let held = File::open(upper.join("file")).unwrap();
        let ballast = data.join("ballast");
        let closed = (0..100).any(|_| {
            dig_holes(&data.join("pool.img"));
            fill(&mut File::create(&ballast).unwrap());
            let _fails = fs::write(upper.join("lost"), vec![1; 1 << 20]);
            storage.settle(id).is_err()
        });
        assert!(closed, "the pool does without blocks");
        fs::remove_file(&ballast).unwrap();
        let is_closed = |answer| matches!(answer, Err(StorageError::PoolClosed { .. }));
        assert!(is_closed(storage.check()));
        assert!(is_closed(storage.destroy(id)));
        assert!(is_closed(
            storage.create(SandboxId::new(), MIB, me()).map(drop)
        ));
        drop(storage);
        let storage = open_any_pool(data).unwrap();
        assert!(is_closed(storage.check()), "somebody holds it");
        drop(held);
        wait(|| storage.check().is_ok());
        assert_eq!(fs::read(upper.join("file")).unwrap(), b"kept");
        fs::write(upper.join("file"), "changed").unwrap();
        volume(&storage);
        storage.destroy(id).unwrap();
    });
}

#[test]
fn a_broken_pool_is_named_and_left_alone_and_a_half_made_one_is_finished() {
    with_own_mounts(|| {
        let data = TempDir::new().unwrap();
        fs::write(data.path().join("pool.img.new"), "half").unwrap();
        if open_pool(data.path()).is_none() {
            return;
        }
        let image = data.path().join("pool.img");
        let garbage = vec![0xA5; 1 << 20];
        fs::write(&image, &garbage).unwrap();
        let opened = Storage::open(data.path(), &Options::default());
        assert!(
            matches!(opened, Err(StorageError::PoolBroken { .. })),
            "{opened:?}"
        );
        assert!(fs::read(&image).unwrap() == garbage);
        assert_nothing_attached(data.path());
    });
}

#[test]
fn an_ordinary_user_gets_the_last_rung_and_the_reason() {
    let data = TempDir::new().unwrap();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root, to become another user");
        return;
    }
    std::os::unix::fs::chown(data.path(), Some(65534), Some(65534)).unwrap();
    // A copy, since the build folder may be closed to others.
    let binary = data.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let mut command = role_of(&binary, "rootless", data.path());
    let status = command.uid(65534).gid(65534).status().unwrap();
    assert!(status.success());
}

/// Not a test of its own: what the processes do that the tests above start.
#[test]
fn role_of_a_started_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let data = std::env::var(DATA).unwrap();
    match role.as_str() {
        "busy" => drop(with_own_mounts(|| keep_busy(Path::new(&data)))),
        _ => be_rootless(Path::new(&data)),
    }
}

fn keep_busy(data: &Path) {
    let Some(storage) = open_pool(data) else {
        return;
    };
    for step in 0.. {
        let (id, upper) = volume(&storage);
        fs::write(upper.join("whole"), vec![1; 4096]).unwrap();
        let child = SandboxId::new();
        storage.fork(id, child, MIB, me()).unwrap();
        storage
            .destroy(if step % 2 == 0 { id } else { child })
            .unwrap();
        println!("\nstep {step}");
    }
}

fn be_rootless(data: &Path) {
    let storage = Storage::open(data, &Options::default()).unwrap();
    let facts = storage.facts().unwrap();
    assert!(facts.tier > Tier::Btrfs && !facts.disk_quota);
    assert!(facts.why_not_better.unwrap().contains("root"));
    let (id, upper) = volume(&storage);
    fs::create_dir(upper.join("closed")).unwrap();
    fs::write(upper.join("closed/file"), "secret").unwrap();
    let closed = || {
        fs::set_permissions(
            upper.join("closed"),
            std::os::unix::fs::PermissionsExt::from_mode(0o000),
        )
    };
    closed().unwrap();
    let child = storage.fork(id, SandboxId::new(), MIB, me()).unwrap();
    for folder in [upper.join("closed"), child.upper().join("closed")] {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o7777, 0);
    }
    storage.destroy(id).unwrap();
    storage.destroy(child.id()).unwrap();
    while fs::read_dir(data.join("trash")).unwrap().count() > 0 {
        std::thread::yield_now();
    }
}

fn role(role: &str, data: &Path) -> Command {
    role_of(&std::env::current_exe().unwrap(), role, data)
}

fn role_of(binary: &Path, role: &str, data: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--exact", "pool::role_of_a_started_process", "--nocapture"]);
    command.env(ROLE, role).env(DATA, data);
    command
}

/// Mounts an overlay on the volume and writes until it is told to stop; the bytes that were taken.
fn fill_overlay(volume: &Volume, data: &Path) -> u64 {
    let (lower, merged) = (data.join("lower"), data.join("merged"));
    fs::create_dir_all(&lower).unwrap();
    fs::create_dir_all(&merged).unwrap();
    let (upper, work) = (volume.upper(), volume.work());
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .unwrap();
    let name = format!("fill{}", fs::read_dir(&merged).unwrap().count());
    let name = if name == "fill0" { "fill" } else { &name };
    let mut file = File::create(merged.join(name)).unwrap();
    let chunk: Vec<u8> = (0..MIB).map(|i| (i * i % 251) as u8).collect();
    let mut wrote = 0;
    let end = loop {
        match file
            .write_all(&chunk)
            .and_then(|()| rustix::fs::fsync(file.as_fd()).map_err(Into::into))
        {
            Ok(()) => wrote += MIB,
            Err(e) => break e,
        }
        assert!(wrote < POOL_BYTES, "no limit");
    };
    assert_eq!(end.kind(), ErrorKind::QuotaExceeded, "{end}");
    drop(file);
    umount(&merged).unwrap();
    wrote
}

/// Runs `body` with a data folder on a disk of its own, of so many MiB, that nobody else sees.
fn on_small_disk(mib: u64, body: impl FnOnce(&Path) + Send) {
    with_own_mounts(|| {
        let data = TempDir::new().unwrap();
        let size = format!("size={mib}m");
        mount(
            None::<&str>,
            data.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(&*size),
        )
        .unwrap();
        body(data.path());
        assert_detached(data.path());
        umount(data.path()).unwrap();
    });
}

/// Gives blocks that hold nothing back to the disk, behind the pool's back.
fn dig_holes(image: &Path) {
    let status = Command::new("fallocate")
        .arg("--dig-holes")
        .arg(image)
        .status();
    assert!(status.unwrap().success());
}

/// Writes until nothing fits any more.
fn fill(file: &mut File) {
    for size in [1 << 20, 4096] {
        let chunk = vec![1; size];
        let full = loop {
            if let Err(e) = file.write_all(&chunk).and_then(|()| file.sync_data()) {
                break e;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }
}
