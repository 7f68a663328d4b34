//! Standing still, and going on.

use bytes::Bytes;
use skerry_proto::agent::*;

use crate::node::{Agent, Node, command, sh};

#[test]
fn held_processes_stand_still_until_the_release() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(sh(
        "(while :; do echo child; sleep 0.01; done) & while :; do echo parent; sleep 0.01; done",
    ));
    until_bytes(&mut node, &id, 200);

    settle(&mut node, hold());
    // What they wrote before is read up to here: whoever still ran would fill the pipe again.
    let pid = node.execs[&id].pid.unwrap();
    assert_eq!(state(pid), 'T');
    for pid in children(pid) {
        // One that has ended waits for its parent, who stands still.
        assert!(matches!(state(pid), 'T' | 'Z'), "process {pid}");
    }

    settle(&mut node, release());
    let had = node.execs[&id].stdout.len();
    until_bytes(&mut node, &id, had + 200);
}

#[test]
fn a_process_that_was_stopped_by_another_stays_stopped() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(command(&[
        "/bin/sh",
        "-c",
        "echo up; kill -STOP $$; echo woken",
    ]));
    node.until_out(&id, "up");
    let pid = node.execs[&id].pid.unwrap();
    while state(pid) != 'T' {
        std::thread::yield_now();
    }

    settle(&mut node, hold());
    settle(&mut node, release());
    assert_eq!(state(pid), 'T');
    node.signal(&id, 18);
    assert_eq!(node.finish(&id).out(), "up\nwoken\n");
}

#[test]
fn what_was_asked_for_last_is_what_holds() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(sh("echo up; exec sleep 600"));
    node.until_out(&id, "up");
    let pid = node.execs[&id].pid.unwrap();

    for _ in 0..50 {
        settle_all(&mut node, [hold(), release(), hold()]);
        assert_eq!(state(pid), 'T');
        settle_all(&mut node, [release(), hold(), release()]);
        assert_ne!(state(pid), 'T');
    }
}

fn hold() -> Call {
    Call::Hold(Hold {})
}

fn release() -> Call {
    Call::Release(Release { renew: None })
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace()
        .map(|p| p.parse().unwrap())
        .collect()
}

fn settle(node: &mut Node, call: Call) {
    settle_all(node, [call]);
}

/// Asks for all of it before the first answer is heard.
fn settle_all<const N: usize>(node: &mut Node, calls: [Call; N]) {
    for asked in calls.map(|call| node.ask(call)) {
        let reply = node.reply(asked);
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    }
}

fn until_bytes(node: &mut Node, id: &Bytes, bytes: usize) {
    node.until("output", |node| node.execs[id].stdout.len() > bytes);
}
