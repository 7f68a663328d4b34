//! Daemons of ours that die at any moment, while the engine lives on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use skerry_driver::conformance::Bed as _;
use skerry_driver::{Driver, Extent};
use skerry_types::SnapshotId;

use crate::bed::{Bed, driver_at, spec_at, test};
use crate::service::Kind;

/// What a daemon does until it is killed. Runs only as the child of the test below.
#[test]
#[ignore = "the victim of `nothing_is_left_after_a_daemon_was_killed_at_any_moment`"]
fn victim() {
    let Some(folder) = env::var_os("SKERRY_TEST_VICTIM") else {
        return;
    };
    let folder = Path::new(&folder);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(async {
        let driver = driver_at(folder).await;
        loop {
            let [parent, fork, copy] = [(); 3].map(|()| spec_at(folder));
            let snapshot = SnapshotId::new();
            driver.create(&parent).await.unwrap();
            driver.fork(parent.id, &fork).await.unwrap();
            let files = Extent::Files;
            driver.snapshot(parent.id, snapshot, files).await.unwrap();
            driver.restore(snapshot, &copy).await.unwrap();
            driver.kill(fork.id).await.unwrap();
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
/// The cycle takes longer than that on any machine.
const CYCLE_MILLIS: u64 = 2400;

#[test]
fn nothing_is_left_after_a_daemon_was_killed_at_any_moment() {
    let is_thorough = env::var_os("SKERRY_TEST_ALL").is_some();
    let rounds = if is_thorough { ROUNDS } else { FEW_ROUNDS };
    test(Kind::Podman, async |bed| {
        for round in 0..rounds {
            die_after(
                bed.folder(),
                Duration::from_millis(round * CYCLE_MILLIS / rounds),
            );
            sweep(&bed).await;
        }
    });
}

fn die_after(folder: &Path, moment: Duration) {
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::victim", "--ignored", "--nocapture"])
        .env("SKERRY_TEST_VICTIM", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let has_begun = || {
        let names = fs::read_dir(folder.join("data/docker"));
        let names = names.into_iter().flatten().flatten();
        names.filter(|entry| entry.path().is_dir()).count() > 0
    };
    while !has_begun() {
        assert_eq!(victim.try_wait().unwrap(), None, "it died by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Spread over the whole cycle; whatever moment it hits, the outcome must be the same.
    std::thread::sleep(moment);
    assert_eq!(victim.try_wait().unwrap(), None, "it died by itself");
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// What a later daemon does with what it finds.
async fn sweep(bed: &Bed) {
    let driver = driver_at(bed.folder()).await;
    for id in driver.list().await.unwrap() {
        drop(driver.adopt(id).await.unwrap());
        driver.destroy(id).await.unwrap();
    }
    for id in driver.list_snapshots().await.unwrap() {
        driver.remove_snapshot(id).await.unwrap();
    }
    let mut left = bed.snapshot(&[]).await;
    left.retain(|line| !line.ends_with("/docker/agent"));
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_sandbox_whose_container_somebody_removed_is_gone() {
    test(Kind::Podman, async |bed| {
        let (driver, spec) = (driver_at(bed.folder()).await, spec_at(bed.folder()));
        driver.create(&spec).await.unwrap();
        bed.remove_all_containers().await;
        driver.wait(spec.id).await.unwrap();
        assert_eq!(driver.adopt(spec.id).await.unwrap(), None);
        driver.destroy(spec.id).await.unwrap();
        sweep(&bed).await;
    });
}
