//! Spawners and daemons that die at any moment.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use std::{fs, process};

use skerry_driver::{Driver, DriverError};
use skerry_sys::pidfd;

use crate::bed::{Bed, create, kill, test, test_in};

/// The spawner and the blank processes it made: the driver puts the folder on their command line, and nobody else does.
fn helpers_of(bed: &Bed) -> Vec<u32> {
    let is_helper = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').nth(1) == bed.data().to_str()
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_helper).collect()
}

fn kill_spawner_of(bed: &Bed) {
    let own = format!("\nPPid:\t{}\n", process::id());
    let is_spawner = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains(&own))
    };
    helpers_of(bed).into_iter().filter(is_spawner).for_each(end);
}

/// Returns once it has exited.
fn end(pid: u32) {
    if let Some(process) = pidfd::open(pid).unwrap() {
        pidfd::kill(&process).unwrap();
        assert!(pidfd::wait(&process, Duration::from_secs(10)).unwrap());
    }
}

#[test]
fn sandboxes_outlive_the_spawner_and_the_next_request_starts_another() {
    test(async |bed| {
        let driver = bed.driver().await;
        let (before, after) = (bed.spec(), bed.spec());
        let (_, mut agent) = create(&driver, &before).await;
        kill_spawner_of(&bed);
        assert_eq!(agent.sh("echo here").await.ok(), "here\n");
        create(&driver, &after).await;
        driver.destroy(before.id).await.unwrap();
        driver.destroy(after.id).await.unwrap();
        bed.assert_clean();
    });
}

#[test]
fn what_is_prepared_needs_no_spawner_any_more_and_can_die_itself() {
    test(async |bed| {
        let driver = bed.driver().await;
        let (first, second) = (bed.spec(), bed.spec());
        for spec in [&first, &second] {
            assert!(driver.prepare(spec.id, spec.network).await.unwrap());
        }
        kill_spawner_of(&bed);
        let (_, mut agent) = create(&driver, &first).await;
        assert_eq!(agent.sh("hostname").await.ok(), "island\n");
        let blank = helpers_of(&bed);
        assert_eq!(
            blank.len(),
            1,
            "the first one is an agent, and no spawner was needed"
        );
        end(blank[0]);
        let (_, mut agent) = create(&driver, &second).await;
        assert_eq!(agent.sh("echo here").await.ok(), "here\n");
        for spec in [&first, &second] {
            driver.destroy(spec.id).await.unwrap();
        }
        bed.assert_clean();
    });
}

/// A program in the spawner's place that takes the request and dies of it, `deaths` times; then it is the real one.
fn doomed_spawner(bed: &Bed, deaths: u32) -> std::path::PathBuf {
    let path = bed.path("doomed");
    let count = bed.path("deaths");
    fs::write(&count, "").unwrap();
    let script = format!(
        "#!/bin/sh\nif [ $(/usr/bin/wc -c < {count}) -lt {deaths} ]; then printf x >> {count}; \
         exec /usr/bin/python3 -I -c 'import socket; socket.socket(fileno=0).recv(1)'; fi\nexec {real} \"$@\"\n",
        count = count.display(),
        real = env!("CARGO_BIN_EXE_skerry-ns-helper"),
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_request_that_killed_the_spawner_is_made_once_more_and_not_for_ever() {
    test(async |bed| {
        let driver = bed.driver_with(&doomed_spawner(&bed, 1), None).await;
        let spec = bed.spec();
        let (_, mut agent) = create(&driver, &spec).await;
        assert_eq!(agent.sh("echo made").await.ok(), "made\n");
        driver.destroy(spec.id).await.unwrap();
        drop(driver);

        let driver = bed.driver_with(&doomed_spawner(&bed, 100), None).await;
        let error = driver.create(&bed.spec()).await.unwrap_err();
        assert!(matches!(error, DriverError::Step { .. }), "{error}");
        bed.assert_clean();
    });
}

#[test]
fn a_caller_that_stops_waiting_leaves_what_destroy_takes_away() {
    test(async |bed| {
        let driver = bed.driver().await;
        let mut made = Vec::new();
        for patience in (0..40).map(|n| Duration::from_micros(n * 150)) {
            let spec = bed.spec();
            drop(tokio::time::timeout(patience, driver.create(&spec)).await);
            driver.destroy(spec.id).await.unwrap();
            made.push(spec.id);
        }
        // A request under way when its caller went is finished before this one.
        let last = bed.spec();
        create(&driver, &last).await;
        made.push(last.id);
        for id in made {
            driver.destroy(id).await.unwrap();
        }
        bed.assert_clean();
    });
}

/// What a daemon does until it is killed. Runs only as the child of the test below.
#[test]
#[ignore = "the victim of `nothing_is_left_after_a_daemon_was_killed_at_any_moment`"]
fn victim() {
    let Some(data) = std::env::var_os("SKERRY_TEST_VICTIM") else {
        return;
    };
    test_in(Path::new(&data), async |bed| {
        let driver = bed.driver().await;
        loop {
            let (parent, child) = (bed.spec(), bed.spec());
            driver.prepare(child.id, child.network).await.unwrap();
            create(&driver, &parent).await;
            driver.fork(parent.id, &child).await.unwrap();
            let unused = bed.spec();
            driver.prepare(unused.id, unused.network).await.unwrap();
            driver.destroy(parent.id).await.unwrap();
            driver.destroy(unused.id).await.unwrap();
            driver.kill(child.id).await.unwrap();
            driver.destroy(child.id).await.unwrap();
        }
    });
}

#[test]
fn nothing_is_left_after_a_daemon_was_killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let mut victim = process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::victim", "--ignored", "--nocapture"])
            .env("SKERRY_TEST_VICTIM", folder.path())
            .stdout(process::Stdio::null())
            .stderr(process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for_a_record(victim.id(), folder.path());
        // Spread over the whole cycle; whatever moment it hits, the outcome must be the same.
        std::thread::sleep(Duration::from_micros(round * 1_777));
        kill(victim.id());
        victim.wait().unwrap();
        test_in(folder.path(), async |bed| {
            let driver = bed.driver().await;
            for id in driver.list().await.unwrap() {
                drop(driver.adopt(id).await.unwrap());
                driver.destroy(id).await.unwrap();
            }
            bed.assert_clean();
        });
    }
}

/// The pool is mounted only for the thread that is the victim's daemon.
fn wait_for_a_record(victim: u32, folder: &Path) {
    let below = folder.strip_prefix("/").unwrap();
    let has_record = |task: fs::DirEntry| {
        let data = task.path().join("root").join(below).join("data");
        let records = [data.join("pool/run"), data.join("run")];
        (records.iter()).any(|run| fs::read_dir(run).is_ok_and(|mut run| run.next().is_some()))
    };
    let tasks = || fs::read_dir(format!("/proc/{victim}/task")).unwrap();
    while !tasks().flatten().any(has_record) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
