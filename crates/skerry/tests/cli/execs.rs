//! Commands: bytes, codes, signals, and connections that break.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};

use crate::bed::{Bed, Ran};

#[test]
fn bytes_pass_through_unchanged_both_ways() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let bytes: Vec<u8> = (0..=255).cycle().take(300_001).collect();
    let ran = bed.fed(&["exec", "-i", "b", "--", "cat"], &bytes);
    assert!(
        ran.bytes == bytes,
        "{} bytes of {}: {}",
        ran.bytes.len(),
        bytes.len(),
        ran.stderr
    );
    let ran = bed.run(&["logs", "b", "1"]);
    assert!(ran.bytes == bytes, "the log has {} bytes", ran.bytes.len());
    let ran = bed.run(&["exec", "b", "printf out; printf err >&2"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out", "err"));
}

#[test]
fn codes_are_those_of_the_command() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    for (script, code) in [
        ("exit 0 ", 0),
        ("exit 3 ", 3),
        ("exit 255 ", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
    ] {
        assert_eq!(bed.run(&["exec", "b", script]).code, code, "{script}");
    }
    let ran = bed.run(&["exec", "--timeout", "1s", "b", "sleep 100"]);
    assert_eq!(ran.code, 124, "{}", ran.stderr);
    let id = bed.ok(&["exec", "-d", "b", "--", "sh", "-c", "echo later"]);
    assert_eq!(bed.ok(&["logs", "-f", "b", &id]), "later");
}

#[test]
fn an_exec_under_which_the_sandbox_is_deleted_has_no_code() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let mut child = bed.spawn(&["exec", "b", "echo ready; sleep 1000"]);
    await_line(&mut child, "ready");
    bed.ok(&["rm", "b"]);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 125, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("deleted under the command"),
        "{}",
        ran.stderr
    );
}

#[test]
fn interrupts_are_passed_on_and_the_second_kills() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done";
    let mut child = bed.spawn(&["exec", "b", script]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    interrupt(&child);
    assert_eq!(lines.next().unwrap().unwrap(), "caught");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

#[test]
fn a_command_ends_when_nobody_reads_what_it_writes() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let mut child = bed.spawn(&["exec", "b", "--", "yes"]);
    await_line(&mut child, "y");
    drop(child.stdout.take());
    child.wait().unwrap();
    bed.ok(&["logs", "-f", "b", "1"]);
    assert_eq!(bed.json(&["execs", "b"])[0]["end"]["signal"], 13);
}

#[test]
fn a_server_that_dies_and_comes_back_loses_nothing() {
    let mut bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let url = bed.server.url().to_owned();
    let key = bed.server.key().to_owned();
    let script = "for i in $(seq 1 300); do echo $i; sleep 0.01; done; exit 5";
    let target = ["--url", &url, "--api-key", &key];
    let mut exec = bed.spawn(&[&target[..], &["exec", "b", script]].concat());
    let logs = bed.spawn(&[&target[..], &["logs", "-f", "b"]].concat());
    let mut stdout = BufReader::new(exec.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.ends_with("\n20\n") {
        assert!(
            stdout.read_line(&mut seen).unwrap() > 0,
            "it ended early: {seen}"
        );
    }
    bed.server.kill().unwrap();
    bed.server.start().unwrap();
    stdout.read_to_string(&mut seen).unwrap();
    let all: String = (1..=300).map(|n| format!("{n}\n")).collect();
    assert_eq!(seen, all);
    assert_eq!(exec.wait().unwrap().code(), Some(5));
    bed.ok(&["stop", "b"]);
    assert_eq!(
        Ran::of(logs.wait_with_output().unwrap()).stdout,
        all,
        "logs -f has the same"
    );
}

fn await_line(child: &mut Child, wanted: &str) {
    let mut byte = [0];
    let mut line = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    assert_eq!(String::from_utf8_lossy(&line), wanted);
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}
