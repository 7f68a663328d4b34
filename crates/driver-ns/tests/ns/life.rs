//! From create to destroy, over daemons and forks.

use std::fs;

use rustix::process::{getegid, geteuid};
use skerry_driver::{Driver, DriverError, Spec};
use skerry_types::SandboxId;

use crate::agent::Agent;
use crate::bed::{create, test};

#[test]
fn a_sandbox_lives_is_what_was_asked_for_and_leaves_nothing() {
    test(async |bed| {
        let driver = bed.driver().await;
        let spec = bed.spec();
        let (made, mut agent) = create(&driver, &spec).await;
        assert_eq!(made.facts.privilege, spec.privilege);
        assert_eq!(
            agent.sh("hostname; cat /etc/hostname").await.ok(),
            "island\nisland\n"
        );
        assert_eq!(driver.list().await.unwrap(), [spec.id]);
        assert!(matches!(
            driver.create(&spec).await,
            Err(DriverError::Exists(_))
        ));
        assert!(
            agent.sh("true").await.stderr.is_empty(),
            "a refused twin changes nothing"
        );

        let other = bed.spec();
        let (_, mut neighbour) = create(&driver, &other).await;
        let read = "cat /etc/machine-id /etc/hosts; id -u";
        assert_ne!(agent.sh(read).await.ok(), neighbour.sh(read).await.ok());

        driver.kill(spec.id).await.unwrap();
        driver.wait(spec.id).await.unwrap();
        assert!(matches!(
            driver.connect(spec.id).await,
            Err(DriverError::NotRunning(_))
        ));
        assert!(
            bed.storage.get(spec.id).is_some(),
            "the files outlive the processes"
        );
        driver.destroy(spec.id).await.unwrap();
        driver.destroy(spec.id).await.unwrap();
        driver.destroy(other.id).await.unwrap();
        assert!(matches!(
            driver.wait(spec.id).await,
            Err(DriverError::NotFound(_))
        ));
        bed.assert_clean();
    });
}

#[test]
fn a_link_in_the_image_is_replaced_and_not_followed() {
    test(async |bed| {
        let driver = bed.driver().await;
        let spec = bed.spec();
        let (_, mut agent) = create(&driver, &spec).await;
        // The image's /etc/hostname points at /etc/passwd.
        assert!(
            agent
                .sh("cat /etc/passwd")
                .await
                .ok()
                .contains("root:x:0:0")
        );
        driver.destroy(spec.id).await.unwrap();
    });
}

#[test]
fn a_later_daemon_takes_up_what_runs_and_only_that() {
    test(async |bed| {
        let (runs, ended) = (bed.spec(), bed.spec());
        let first = bed.driver().await;
        create(&first, &runs).await;
        create(&first, &ended)
            .await
            .1
            .sh("echo kept > /kept")
            .await
            .ok();
        drop(first);
        let second = bed.driver().await;
        second.destroy(ended.id).await.unwrap();
        let made = second.adopt(runs.id).await.unwrap().expect("it runs");
        assert_eq!(made.facts.driver, "ns");
        let mut agent = Agent::new(second.connect(runs.id).await.unwrap()).await;
        assert_eq!(agent.sh("echo here").await.ok(), "here\n");
        second.kill(runs.id).await.unwrap();
        assert_eq!(second.adopt(runs.id).await.unwrap(), None);
        assert_eq!(second.list().await.unwrap(), [runs.id]);
        second.destroy(runs.id).await.unwrap();
        bed.assert_clean();
    });
}

#[test]
fn what_other_drivers_keep_in_the_same_storage_is_not_ours() {
    test(async |bed| {
        let theirs = SandboxId::new();
        let owner = (geteuid().as_raw(), getegid().as_raw());
        bed.storage.create(theirs, 1 << 20, owner).unwrap();
        let driver = bed.driver().await;
        assert_eq!(driver.list().await.unwrap(), []);
        assert_eq!(driver.list_snapshots().await.unwrap(), []);
        assert!(driver.release().await.unwrap());
        assert!(bed.storage.get(theirs).is_some());
        bed.storage.destroy(theirs).unwrap();
    });
}

/// Both files hold the same number, but for the moment between the two writes.
const WRITER: &str = "
import os
a, b = (os.open(path, os.O_RDWR | os.O_CREAT) for path in ('/a', '/b'))
number = 0
while True:
    number += 1
    os.pwrite(a, b'%09d' % number, 0)
    os.pwrite(b, b'%09d' % number, 0)
";

#[test]
fn a_fork_has_the_files_of_one_instant_and_then_its_own() {
    test(async |bed| {
        let driver = bed.driver().await;
        let (parent, child) = (bed.spec(), bed.spec());
        let (_, mut agent) = create(&driver, &parent).await;
        agent.sh("echo parent > /who; chmod 4711 /who").await.ok();
        agent
            .start("", &["/usr/bin/python3", "-I", "-c", WRITER])
            .await;
        agent.sh("while ! [ -s /b ]; do :; done").await.ok();
        driver.fork(parent.id, &child).await.unwrap();
        let mut forked = Agent::new(driver.connect(child.id).await.unwrap()).await;
        assert_eq!(
            forked.sh("cat /who; stat -c %a:%u /who").await.ok(),
            "parent\n4711:0\n"
        );
        let ahead = forked
            .python("print(int(open('/a').read()) - int(open('/b').read()))")
            .await
            .ok();
        assert!(
            ["0\n", "1\n"].contains(&ahead.as_str()),
            "not one instant: {ahead}"
        );
        let before = agent.sh("cat /a").await.ok();
        forked.sh("echo child > /who").await.ok();
        assert_eq!(agent.sh("cat /who").await.ok(), "parent\n");
        let next = format!("while [ $(cat /a) = {} ]; do :; done", before.trim());
        agent.sh(&next).await.ok();
        let missing = driver.fork(bed.spec().id, &bed.spec()).await;
        assert!(
            matches!(missing, Err(DriverError::NotFound(_))),
            "{missing:?}"
        );
        driver.destroy(parent.id).await.unwrap();
        assert_eq!(
            forked.sh("cat /who").await.ok(),
            "child\n",
            "outlives its parent"
        );
        driver.destroy(child.id).await.unwrap();
        bed.assert_clean();
    });
}

#[test]
fn a_paused_sandbox_stands_still_and_goes_on() {
    test(async |bed| {
        let driver = bed.driver().await;
        if !driver.capabilities().pause {
            eprintln!("left out: no freezer");
            return;
        }
        let spec = bed.spec();
        let (_, mut agent) = create(&driver, &spec).await;
        agent
            .start("", &["/bin/sh", "-c", "while :; do :; done"])
            .await;
        driver.pause(spec.id).await.unwrap();
        let used = driver.stats(spec.id).await.unwrap().cpu_us;
        assert_eq!(driver.stats(spec.id).await.unwrap().cpu_us, used);
        driver.resume(spec.id).await.unwrap();
        assert_eq!(agent.sh("echo on").await.ok(), "on\n");
        driver.pause(spec.id).await.unwrap();
        driver.destroy(spec.id).await.unwrap();
        bed.assert_clean();
    });
}

#[test]
fn one_that_is_just_starting_a_program_can_be_paused() {
    test(async |bed| {
        let driver = bed.driver().await;
        if !driver.capabilities().pause {
            eprintln!("left out: no freezer");
            return;
        }
        let spec = bed.spec();
        let (_, mut agent) = create(&driver, &spec).await;
        for _ in 0..200 {
            agent.start("", &["/bin/true"]).await;
            driver.pause(spec.id).await.unwrap();
            driver.resume(spec.id).await.unwrap();
        }
        assert_eq!(agent.sh("echo on").await.ok(), "on\n");
        driver.destroy(spec.id).await.unwrap();
        bed.assert_clean();
    });
}

#[test]
fn what_cannot_be_made_says_which_step_and_leaves_nothing() {
    test(async |bed| {
        let driver = bed.driver().await;
        let mut spec = bed.spec();
        spec.rootfs.layers = vec!["/nowhere/at/all".into()];
        let error = driver.create(&spec).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("/nowhere/at/all"), "{cause}");
        let mut many: Spec = bed.spec();
        many.rootfs.layers = vec![bed.path("image"); 1000];
        let error = driver.create(&many).await.unwrap_err();
        assert!(matches!(error, DriverError::Unsupported(_)), "{error}");
        bed.assert_clean();
        let folder = fs::metadata(bed.data()).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&folder.permissions()) & 0o777,
            0o700
        );
    });
}
