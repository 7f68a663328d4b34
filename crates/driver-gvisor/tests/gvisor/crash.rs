//! Daemons, kernels and machines that die at any moment.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use skerry_driver::{Driver, DriverError, Extent, NetworkMode};
use skerry_types::SnapshotId;

use crate::bed::{Bed, test, test_in};

/// What a daemon does until it is killed. Runs only as the child of the test below.
#[test]
#[ignore = "the victim of `nothing_is_left_after_a_daemon_was_killed_at_any_moment`"]
fn victim() {
    let Some(folder) = env::var_os("SKERRY_TEST_VICTIM") else {
        return;
    };
    test_in(Path::new(&folder), async |bed: Arc<Bed>| {
        let driver = bed.driver().await;
        loop {
            let (parent, fork, copy) = (bed.spec(), bed.spec(), bed.spec());
            let snapshot = SnapshotId::new();
            driver.create(&parent).await.unwrap();
            driver.fork(parent.id, &fork).await.unwrap();
            let memory = Extent::Memory;
            driver.snapshot(parent.id, snapshot, memory).await.unwrap();
            driver.restore(snapshot, &copy).await.unwrap();
            driver.pause(parent.id).await.unwrap();
            driver.resume(parent.id).await.unwrap();
            for spec in [parent, fork, copy] {
                driver.destroy(spec.id).await.unwrap();
            }
            driver.remove_snapshot(snapshot).await.unwrap();
        }
    });
}

/// Some moments of the cycle, and none of them special; a few where there is no time for more.
const ROUNDS: u64 = 16;
const FEW_ROUNDS: u64 = 3;

#[test]
fn nothing_is_left_after_a_daemon_was_killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let is_thorough = env::var_os("SKERRY_TEST_ALL").is_some();
    let rounds = if is_thorough { ROUNDS } else { FEW_ROUNDS };
    // Leaves the test out where it would not run.
    let mut goes = test_in(folder.path(), async |_: Arc<Bed>| ());
    for round in 0..rounds {
        if goes.is_none() {
            return;
        }
        let mut victim = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--ignored", "--nocapture"])
            .env("SKERRY_TEST_VICTIM", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while records(folder.path()) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Spread over the whole cycle; whatever moment it hits, the outcome must be the same.
        std::thread::sleep(Duration::from_millis(round * 1200 / rounds));
        assert_eq!(victim.try_wait().unwrap(), None, "it died by itself");
        victim.kill().unwrap();
        victim.wait().unwrap();
        goes = test_in(folder.path(), async |bed: Arc<Bed>| {
            let driver = bed.driver().await;
            for id in driver.list().await.unwrap() {
                drop(driver.adopt(id).await.unwrap());
                driver.destroy(id).await.unwrap();
            }
            for id in driver.list_snapshots().await.unwrap() {
                driver.remove_snapshot(id).await.unwrap();
            }
            bed.assert_clean().await;
        });
    }
}

/// Sandboxes of which there is something.
fn records(folder: &Path) -> usize {
    let entries = fs::read_dir(folder.join("data/gvisor"));
    let names = entries.into_iter().flatten().flatten();
    let is_sandbox = |entry: &fs::DirEntry| entry.path().join("state.json").exists();
    names.filter(is_sandbox).count()
}

#[test]
fn a_sandbox_ends_with_its_kernel_and_with_its_gofer() {
    test(async |bed| {
        let driver = bed.driver().await;
        for name in ["runsc-sandbox", "runsc-gofer"] {
            let spec = bed.spec();
            driver.create(&spec).await.unwrap();
            bed.kill(name);
            driver.wait(spec.id).await.unwrap();
            let link = driver.connect(spec.id).await.err();
            assert!(matches!(link, Some(DriverError::NotRunning(_))), "{link:?}");
            assert_eq!(driver.adopt(spec.id).await.unwrap(), None);
            driver.destroy(spec.id).await.unwrap();
        }
        bed.assert_clean().await;
    });
}

#[test]
fn a_paused_sandbox_outlives_the_machine() {
    test(async |bed| {
        let driver = bed.driver().await;
        let mut spec = bed.spec();
        if driver.capabilities().nat {
            spec.network = NetworkMode::Nat;
        }
        driver.create(&spec).await.unwrap();
        driver.pause(spec.id).await.unwrap();
        assert!(bed.processes().is_empty(), "{:?}", bed.processes());
        drop(driver);
        // What a machine does not have when it comes up again.
        bed.network.release(spec.id).await.unwrap();
        let driver = bed.driver().await;
        assert!(driver.adopt(spec.id).await.unwrap().is_some());
        driver.resume(spec.id).await.unwrap();
        driver.connect(spec.id).await.unwrap();
        driver.destroy(spec.id).await.unwrap();
        bed.assert_clean().await;
    });
}

#[test]
fn memory_is_kept_again_when_nobody_took_up_the_link() {
    test(async |bed| {
        let driver = bed.driver().await;
        let (spec, copy) = (bed.spec(), bed.spec());
        driver.create(&spec).await.unwrap();
        for snapshot in [SnapshotId::new(), SnapshotId::new()] {
            let memory = Extent::Memory;
            driver.snapshot(spec.id, snapshot, memory).await.unwrap();
            // By then the agent has dialled.
            driver.restore(snapshot, &copy).await.unwrap();
            driver.destroy(copy.id).await.unwrap();
            driver.remove_snapshot(snapshot).await.unwrap();
        }
        driver.destroy(spec.id).await.unwrap();
        bed.assert_clean().await;
    });
}
