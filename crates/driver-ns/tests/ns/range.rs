//! The driver as an ordinary user for whom the machine set ids aside.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::{env, fs, mem};

use skerry_driver::{Driver, Privilege};
use skerry_types::SandboxId;

use crate::agent::Agent;
use crate::bed::{HELPER, create, is_root, test_in};

const FOLDER: &str = "SKERRY_TEST_RANGE";
/// Plays the ordinary user; by this name the file of ids knows them.
const NOBODY: &str = "65534";
const SET_ASIDE: &str = "nobody:700000000:65536\n";

/// Two daemons, one after the other, each a process of its own as in life; then what every driver has to pass.
#[test]
fn a_range_of_ids_gives_users_and_level_root_and_outlives_a_daemon() {
    let has = |program: &str| Path::new("/usr/bin").join(program).exists();
    if !is_root() || !has("newuidmap") || !has("setpriv") {
        eprintln!("left out: it needs root, newuidmap and setpriv");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let users = folder.path().join("users");
    fs::create_dir(&users).unwrap();
    chown(&users, Some(65_534), Some(65_534)).unwrap();
    fs::write(folder.path().join("subid"), SET_ASIDE).unwrap();
    as_nobody(folder.path(), "range::first_daemon");
    as_nobody(folder.path(), "range::second_daemon");
    as_nobody(folder.path(), "conformance::conforms_to_what_it_declares");
}

/// Runs one of the tests below as an ordinary user on a machine that set ids aside: only its own mounts say so.
fn as_nobody(folder: &Path, test: &str) {
    let script = "mount --bind \"$0/subid\" /etc/subuid && mount --bind \"$0/subid\" /etc/subgid && exec \"$@\"";
    let users = folder.join("users");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command.arg(folder);
    command.args([
        "setpriv",
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
    ]);
    command
        .args([HELPER, "users"])
        .arg(users.join("data"))
        .arg(env::current_exe().unwrap());
    command.args(["--exact", test, "--include-ignored", "--nocapture"]);
    let output = command
        .env(FOLDER, &users)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(output.status.success(), "{test}: {output:?}");
}

#[test]
#[ignore = "a part of the test above"]
fn first_daemon() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    test_in(folder.as_ref(), async |bed| {
        let network = bed.network().await;
        let driver = bed.driver_with(HELPER.as_ref(), Some(network)).await;
        let can = driver.capabilities();
        assert!(can.rootless && can.level_root && can.users, "{can:?}");

        let spec = bed.spec_root();
        let (_, mut agent) = create(&driver, &spec).await;
        let seen =
            agent.sh("id -u; stat -c '%u %n' /etc/passwd /home/user; cat /proc/self/uid_map");
        let seen = seen.await.ok();
        let words: Vec<&str> = seen.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "0",
                "0",
                "/etc/passwd",
                "1000",
                "/home/user",
                "0",
                "1",
                "65536"
            ]
        );
        let users = "echo mine > /home/user/file && chown user:user /home/user/file && chown 7:65534 /etc/group && stat -c %u:%g /etc/group";
        assert_eq!(agent.sh(users).await.ok(), "7:65534\n");
        let write = [
            "/bin/sh",
            "-c",
            "id -u; cat /home/user/file; echo no > /etc/passwd",
        ];
        let output = agent.run("user", &write).await;
        assert_eq!(output.stdout, "1000\nmine\n", "{output:?}");
        assert!(output.stderr.contains("ermission denied"), "{output:?}");

        let restricted = bed.spec();
        assert_eq!(restricted.privilege, Privilege::Restricted);
        let (_, mut agent) = create(&driver, &restricted).await;
        let caps = ["/bin/sh", "-c", "id -u; grep CapBnd /proc/self/status"];
        let none = "1000\nCapBnd:\t0000000000000000\n";
        assert_eq!(agent.run("user", &caps).await.ok(), none);
        // Both run on; the second daemon finds them.
        mem::forget(bed);
    });
}

#[test]
#[ignore = "a part of the test above"]
fn second_daemon() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    test_in(folder.as_ref(), async |bed| {
        let network = bed.network().await;
        let driver = bed
            .driver_with(HELPER.as_ref(), Some(network.clone()))
            .await;
        let found = driver.list().await.unwrap();
        assert_eq!(found.len(), 2);
        let mut files = Vec::new();
        for id in &found {
            assert!(driver.adopt(*id).await.unwrap().is_some());
            files.push(file_of_a_fork(&bed, &driver, *id).await);
        }
        files.sort();
        assert_eq!(files, ["", "1000 mine\n"]);
        for id in driver.list().await.unwrap() {
            driver.destroy(id).await.unwrap();
        }
        bed.assert_clean();
        network.stop().await.unwrap();
    });
}

/// What a fork has of the file that the first daemon's sandbox wrote.
async fn file_of_a_fork(
    bed: &crate::bed::Bed,
    driver: &skerry_driver_ns::NsDriver,
    parent: SandboxId,
) -> String {
    let child = bed.spec();
    driver.fork(parent, &child).await.unwrap();
    let mut agent = Agent::new(driver.connect(child.id).await.unwrap()).await;
    let read = "test ! -e /home/user/file || { stat -c '%u ' /home/user/file | tr -d '\\n'; cat /home/user/file; }";
    agent.sh(read).await.ok()
}
