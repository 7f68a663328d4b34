//! The driver as an ordinary user, who has one id and no control groups.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::{env, fs, process};

use skerry_driver::{Driver, DriverError};

use crate::bed::{HELPER, create, is_root, test_in};

const NOBODY: u32 = 65_534;
const FOLDER: &str = "SKERRY_TEST_ROOTLESS";

/// Root plays an ordinary user by becoming one; an ordinary user is one.
#[test]
fn an_ordinary_user_gets_sandboxes_and_honest_words_about_them() {
    let folder = tempfile::tempdir().unwrap();
    if !is_root() {
        return ordinary(folder.path());
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "rootless::as_nobody", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "the other half of the test above"]
fn as_nobody() {
    if let Some(folder) = env::var_os(FOLDER) {
        ordinary(folder.as_ref());
    }
}

fn ordinary(folder: &Path) {
    test_in(folder, async |bed| {
        let network = bed.network().await;
        let driver = bed
            .driver_with(HELPER.as_ref(), Some(network.clone()))
            .await;
        let can = driver.capabilities().clone();
        assert!(can.rootless && !can.level_root && !can.users, "{can:?}");
        let refused = driver.create(&bed.spec_root()).await;
        assert!(
            matches!(refused, Err(DriverError::Unsupported(_))),
            "{refused:?}"
        );
        let mut spec = bed.spec();
        spec.resources.pids = 40;
        let (made, mut agent) = create(&driver, &spec).await;
        assert_eq!(made.facts.limits, can.limits);
        assert_eq!(
            agent.sh("id -u; echo mine > /mine; hostname").await.ok(),
            "0\nisland\n"
        );
        let zero = "CapEff:\t0000000000000000\n";
        assert_eq!(agent.sh("grep CapEff /proc/self/status").await.ok(), zero);
        let child = bed.spec();
        driver.fork(spec.id, &child).await.unwrap();
        let link = driver.connect(child.id).await.unwrap();
        let mut forked = crate::agent::Agent::new(link).await;
        assert_eq!(forked.sh("cat /mine").await.ok(), "mine\n");
        let many = agent.python("import os, time\ntry:\n for n in range(500):\n  if os.fork() == 0: time.sleep(100)\nexcept OSError: print('stopped')").await;
        assert_eq!(many.ok(), "stopped\n");

        let second = bed
            .driver_with(HELPER.as_ref(), Some(network.clone()))
            .await;
        assert!(second.adopt(spec.id).await.unwrap().is_some());
        for id in second.list().await.unwrap() {
            second.destroy(id).await.unwrap();
        }
        bed.assert_clean();
        assert!(network.list().await.unwrap().is_empty());
        network.stop().await.unwrap();
    });
}
