//! `pause`, `resume`, `stats`, images, and a server in the background.

use std::fs;
use std::io::{BufRead, BufReader};

use serde_json::Value;
use skerry_testkit::host;
use skerry_testkit::server::Launch;
use tempfile::TempDir;

use crate::bed::{Bed, Ran, SKERRY, assert_screen, skerry};

/// An ordinary user, who has no ids but their own.
const NOBODY: u32 = 65534;
/// Gives that user a range of ids, where only the command sees it.
const RANGE: &str = "echo nobody:200000:65536 >\"$SKERRY_DATA_DIR/ids\"; \
    for file in /etc/subuid /etc/subgid; do mount --bind \"$SKERRY_DATA_DIR/ids\" $file; done; exec \"$@\"";

#[test]
fn what_is_paused_stands_still_and_goes_on_where_it_was() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    if bed.run(&["pause", "b"]).code != 0 {
        assert!(
            !rustix::process::geteuid().is_root(),
            "root's sandboxes can be paused"
        );
        return eprintln!("SKIPPED: nothing can be paused here");
    }
    bed.ok(&["resume", "b"]);
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    let mut counter = bed.spawn(&["exec", "b", script]);
    let mut lines = BufReader::new(counter.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "1");
    bed.ok(&["pause", "b"]);
    assert_eq!(bed.json(&["get", "b"])["status"], "paused");
    let written = || bed.json(&["execs", "b"])[0]["stdout_bytes"].clone();
    let used = || bed.json(&["stats", "b", "--once"])[0]["cpu_us"].clone();
    let before = (written(), used());
    assert_eq!(bed.run(&["exec", "b", "--", "true"]).code, 125);
    assert_eq!((written(), used()), before, "nothing ran meanwhile");
    assert_eq!(bed.run(&["pause", "b"]).code, 0, "once more is fine");
    assert_eq!(bed.json(&["resume", "b"])["status"], "running");
    bed.ok(&["exec", "b", "--", "true"]);
    // Its numbers have no gap: nothing was lost, and nothing begins anew.
    let numbers = (2..40).map(|n: u32| n.to_string());
    assert!(lines.by_ref().map(Result::unwrap).take(38).eq(numbers));
    bed.ok(&["pause", "b"]);
    bed.ok(&["rm", "b"]);
    assert_eq!(counter.wait().unwrap().code(), Some(125));
}

#[test]
fn stats_say_what_is_used() {
    let bed = Bed::new();
    let id = bed.ok(&["create", "--name", "b", "--memory", "128M"]);
    bed.ok(&["create", "--name", "other"]);
    bed.ok(&[
        "exec",
        "b",
        "head -c 5000000 /dev/zero >file; sync; sleep 1000 &",
    ]);
    let stats = bed.json(&["stats", "b"]);
    let one = &stats[0];
    assert_eq!(
        (one["sandbox_id"].as_str(), stats.as_array().map(Vec::len)),
        (Some(&*id), Some(1))
    );
    assert_eq!(one["memory_limit_bytes"], 128 << 20);
    assert!(one["disk_bytes"].as_u64() >= Some(5_000_000), "{one}");
    assert!(one["pids"].as_u64() >= Some(2), "{one}");
    assert_eq!(bed.json(&["stats"]).as_array().map(Vec::len), Some(2));
    bed.ok(&["stop", "b"]);
    assert_eq!(bed.json(&["stats"]).as_array().map(Vec::len), Some(1));
    assert_eq!(bed.run(&["stats", "b"]).code, 1, "it uses nothing any more");
}

#[test]
fn images_come_and_go() {
    let bed = Bed::new();
    fs::write(bed.home.path().join("text"), "no archive\n".repeat(100)).unwrap();
    fs::create_dir_all(bed.home.path().join("root/bin")).unwrap();
    fs::write(bed.home.path().join("root/bin/tool"), "x").unwrap();
    let screen = bed.screen(&[
        &["image", "import", "text", "app"],
        &["image", "import", "text", "App"],
        &["image", "import", "nofile", "app"],
        &["image", "import", "-", "app"],
        &["image", "pull", "BAD/Name"],
        &["image", "pull", "127.0.0.1:1/app:1"],
        &["image", "inspect", "nosuch"],
        &["image", "rm", "nosuch"],
        &["image", "import", "root", "app"],
        &["image", "rm", "app"],
        &["image", "inspect", "app"],
    ]);
    assert_screen("images", &screen);
}

/// Takes a minute or two each, and a network.
#[test]
fn ordinary_users_build_base_and_use_it() {
    if std::env::var_os("SKERRY_TEST_ALL").is_none() || !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: it needs SKERRY_TEST_ALL=1 and root");
    }
    let launch = || Launch::new(SKERRY).uid(NOBODY);
    let use_it = |bed: &Bed, who: &str, script: &str| {
        let built = bed.run(&["image", "build", "base"]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        assert!(built.stderr.contains("building base"), "{}", built.stderr);
        let run = [
            "run",
            "--image",
            "base",
            "--privilege",
            who,
            "--",
            "sh",
            "-c",
        ];
        bed.ok(&[&run[..], &[script]].concat())
    };
    let one = Bed::with(launch());
    let said = use_it(
        &one,
        "restricted",
        "id -un; python3 -c 'print(6*7)'; git init -q && echo ok",
    );
    assert_eq!(said, "root\n42\nok");
    drop(one);
    let range = Bed::with(launch().wrapper(["unshare", "-m", "sh", "-c", RANGE, "sh"]));
    let said = use_it(
        &range,
        "root",
        "id -un; sudo id -un; stat -c %U /home/user /usr/bin/sudo",
    );
    assert_eq!(said, "user\nroot\nuser\nroot");
}

#[test]
fn a_server_in_the_background_is_there_until_it_shall_not() {
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    let run = |args: &[&str]| {
        let mut command = skerry(&home);
        Ran::of(
            command
                .env("SKERRY_DATA_DIR", &data)
                .args(args)
                .output()
                .unwrap(),
        )
    };
    let up = ["up", "--detach", "--listen", "127.0.0.1:0", "--json"];
    let ran = run(&up);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(run(&["ls", "--url", said["url"].as_str().unwrap()]).code, 0);
    let ran = run(&up);
    assert!(
        ran.code == 1 && ran.stderr.contains("in use"),
        "{}",
        ran.stderr
    );
    assert_eq!(run(&["down"]).code, 0);
    let pid = said["pid"].as_u64().unwrap();
    assert!(!host::is_alive(u32::try_from(pid).unwrap()));
    assert_eq!(run(&["ls"]).code, 4);
    // A number that is somebody else's by now.
    fs::write(data.join("pid"), std::process::id().to_string()).unwrap();
    assert_eq!(run(&["down"]).code, 4);
}

#[test]
fn doctor_asks_the_server_how_it_is() {
    let mut bed = Bed::new();
    let said = |bed: &Bed, what: &str| {
        let all = bed.json(&["doctor"]);
        let of = |finding: &&Value| finding["what"] == what;
        all.as_array().unwrap().iter().find(of).unwrap().clone()
    };
    let server = said(&bed, "server");
    let state = server["state"].as_str().unwrap();
    assert!(state.contains(bed.server.url()), "{state}");
    assert_eq!(server["level"], "good");
    assert_eq!(said(&bed, "records")["level"], "good");
    // What it left says that it listens.
    bed.server.kill().unwrap();
    assert!(bed.server.path("url").exists());
    assert_eq!(said(&bed, "server")["level"], "less");
}
