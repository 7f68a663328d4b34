//! Daemons that die at any moment.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use skerry_driver::{Driver, Extent};
use skerry_types::SnapshotId;

use crate::bed::{Bed, spec, test_in};

/// What a daemon does until it is killed. Runs only as the child of the test below.
#[test]
#[ignore = "the victim of `nothing_is_left_after_a_daemon_was_killed_at_any_moment`"]
fn victim() {
    let Some(folder) = env::var_os("SKERRY_TEST_VICTIM") else {
        return;
    };
    test_in(Path::new(&folder), async |bed: Bed| {
        let driver = bed.driver(None).await;
        loop {
            let (parent, child, snapshot) = (spec(), spec(), SnapshotId::new());
            driver.create(&parent).await.unwrap();
            let memory = Extent::Memory;
            driver.snapshot(parent.id, snapshot, memory).await.unwrap();
            driver.restore(snapshot, &child).await.unwrap();
            driver.pause(parent.id).await.unwrap();
            driver.resume(parent.id).await.unwrap();
            driver.destroy(parent.id).await.unwrap();
            driver.destroy(child.id).await.unwrap();
            driver.remove_snapshot(snapshot).await.unwrap();
        }
    });
}

/// Some moments of the cycle, and none of them special.
const ROUNDS: u64 = 8;

#[test]
fn nothing_is_left_after_a_daemon_was_killed_at_any_moment() {
    if env::var_os("SKERRY_TEST_ALL").is_none() {
        println!("left out: SKERRY_TEST_ALL=1 runs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // So that the first boot is behind them all.
    test_in(folder.path(), async |bed: Bed| {
        let (driver, first) = (bed.driver(None).await, spec());
        driver.create(&first).await.unwrap();
        driver.destroy(first.id).await.unwrap();
    });
    for round in 0..ROUNDS {
        let mut victim = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--ignored", "--nocapture"])
            .env("SKERRY_TEST_VICTIM", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while fs::read_dir(folder.path().join("data/vm/run")).map_or(0, Iterator::count) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Spread over the whole cycle; whatever moment it hits, the outcome must be the same.
        std::thread::sleep(Duration::from_millis(round * 397));
        victim.kill().unwrap();
        victim.wait().unwrap();
        test_in(folder.path(), async |bed: Bed| {
            let driver = bed.driver(None).await;
            for id in driver.list().await.unwrap() {
                drop(driver.adopt(id).await.unwrap());
                driver.destroy(id).await.unwrap();
            }
            for id in driver.list_snapshots().await.unwrap() {
                driver.remove_snapshot(id).await.unwrap();
            }
            bed.assert_clean();
        });
    }
}
