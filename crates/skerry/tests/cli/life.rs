//! The life of sandboxes, from create to clean.

use serde_json::Value;

use crate::bed::{Bed, assert_screen};

#[test]
fn a_life_on_the_screen() {
    let bed = Bed::new();
    let screen = bed.screen(&[
        &["ls"],
        &[
            "create",
            "--name",
            "build",
            "--memory",
            "256M",
            "--disk",
            "64M",
            "--label",
            "job=42",
            "--network",
            "none",
        ],
        &["ls"],
        &["exec", "build", "echo out; exit 3"],
        &["exec", "--stats", "build", "--", "echo", "two words"],
        &["execs", "build"],
        &["logs", "build", "1"],
        &["fork", "build", "-n", "2", "--name", "try"],
        &["tree", "try-2"],
        &["stop", "try-1"],
        &["ls", "--status", "stopped"],
        &["ls", "-q", "--label", "job=41"],
        &["timeout", "build", "2h"],
        &["stop", "build"],
        &["rm", "build"],
        &["ls", "--status", "deleted"],
        &["logs", "build"],
        &["clean", "--force"],
        &["ls", "-q"],
    ]);
    assert_screen("life", &screen);
}

#[test]
fn json_is_json_and_says_the_same() {
    let bed = Bed::new();
    let made = bed.json(&["create", "--name", "a", "-e", "SECRET=s3cret"]);
    let id = made["sandbox_id"].as_str().unwrap();
    assert_eq!(made["status"], "running");
    assert_eq!(bed.json(&["get", "a"])["sandbox_id"], made["sandbox_id"]);
    assert_eq!(bed.json(&["ls"])[0]["sandbox_id"], made["sandbox_id"]);
    assert_eq!(
        bed.ok(&["exec", "a", "--", "sh", "-c", "echo ${#SECRET}"]),
        "6"
    );
    let lines = bed.ok(&["--json", "exec", "a", "echo hi; exit 0"]);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["t"], &last["code"]),
        (&Value::from("exit"), &Value::from(0))
    );
    assert_eq!(bed.json(&["execs", "a"]).as_array().unwrap().len(), 2);
    assert!(bed.json(&["stats"])[0]["memory_bytes"].as_u64().is_some());
    assert_eq!(bed.json(&["image", "inspect", "host"])["kind"], "host");
    let fork = bed.json(&["fork", "a"]);
    assert_eq!(fork[0]["forked_from"], made["sandbox_id"]);
    assert_eq!(bed.json(&["tree", "a"])["root"], made["sandbox_id"]);
    assert_eq!(bed.json(&["rm", "a"])[0]["status"], "deleted");
    let events = bed.ok(&["events", id, "--json"]);
    let kinds: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = kinds
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        (kinds.first(), kinds.last()),
        (Some(&"sandbox.created"), Some(&"sandbox.deleted"))
    );
    assert!(
        !events.contains("s3cret"),
        "values of the environment are not kept"
    );
}

#[test]
fn what_was_stopped_is_started_again_with_its_files() {
    let bed = Bed::new();
    let id = bed.ok(&["create", "--name", "b", "--env", "WHO=me"]);
    bed.ok(&["exec", "b", "echo kept > /tmp/file"]);
    bed.ok(&["stop", "b"]);
    assert_eq!(bed.ok(&["start", "b"]), format!("{id} running"));
    assert_eq!(
        bed.ok(&["exec", "b", "cat /tmp/file; echo $WHO"]),
        "kept\nme"
    );
    let numbers = bed.json(&["execs", "b"]);
    assert_eq!(numbers.as_array().unwrap().len(), 2, "its record goes on");
    assert_eq!(bed.json(&["start", "b"])["status"], "running", "it does");
    bed.ok(&["rm", "b"]);
    assert_eq!(bed.run(&["start", "b"]).code, 1);
}

#[test]
fn a_sandbox_is_found_by_all_it_is_called() {
    let bed = Bed::new();
    let id = bed.ok(&["create", "--name", "web"]);
    for text in ["web", &id, &id[..20], &id[3..20]] {
        assert_eq!(
            bed.json(&["get", text])["sandbox_id"],
            id.as_str(),
            "{text}"
        );
    }
    bed.ok(&["rm", "web"]);
    assert_eq!(
        bed.json(&["get", "web"])["status"],
        "deleted",
        "also when it is gone"
    );
    let second = bed.ok(&["create", "--name", "web"]);
    assert_eq!(
        bed.json(&["get", "web"])["sandbox_id"],
        second.as_str(),
        "the living one is meant"
    );
}

#[test]
fn run_leaves_nothing_unless_it_shall() {
    let bed = Bed::new();
    assert_eq!(bed.run(&["run", "exit 7 "]).code, 7);
    assert_eq!(bed.fed(&["run", "--", "cat"], b"piped").stdout, "piped");
    assert_eq!(bed.run(&["run", "--", "nosuch"]).code, 127);
    assert_eq!(bed.run(&["run", "-w", "/nowhere", "--", "true"]).code, 127);
    assert_eq!(
        bed.run(&["run", "--image", "nosuch", "--", "true"]).code,
        125
    );
    assert_eq!(bed.ok(&["ls", "-q"]), "");
    assert_eq!(
        bed.run(&["run", "--keep", "--name", "kept", "--", "true"])
            .code,
        0
    );
    assert_eq!(bed.json(&["get", "kept"])["status"], "running");
}
