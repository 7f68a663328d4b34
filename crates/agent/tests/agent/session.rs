//! Sessions: shells that stay.

use bytes::Bytes;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::*;

use crate::node::*;

fn open(node: &mut Node, shell: &str) -> Bytes {
    let session_id = new_id();
    node.send(To::SessionOpen(SessionOpen {
        session_id: session_id.clone(),
        shell: b(shell),
        ..SessionOpen::default()
    }));
    node.until("session", |node| node.sessions.contains_key(&session_id));
    session_id
}

fn script(session_id: &Bytes, text: &str) -> ExecStart {
    ExecStart {
        session_id: session_id.clone(),
        ..command(&[text])
    }
}

fn close(node: &mut Node, id: &Bytes) {
    node.send(To::SessionClose(SessionClose {
        session_id: id.clone(),
        kill_grace_ms: 200,
    }));
    node.until("close", |node| !node.sessions[id].open);
}

#[test]
fn state_stays_and_each_script_has_its_own_end() {
    for shell in ["/bin/bash", "/bin/dash"] {
        let agent = Agent::start();
        let mut node = agent.node();
        let id = open(&mut node, shell);
        let cases = [
            ("cd /tmp; export X=5; f() { echo \"f $1\"; }", "", 0),
            ("pwd; echo $X; f a\nf b\n", "/tmp\n5\nf a\nf b\n", 0),
            ("(exit 7)", "", 7),
            ("echo 'it''s' \"\\\\\" | cat; false", "its \\\n", 1),
            ("cat <<END\nhere $X\nEND", "here 5\n", 0),
            ("cat", "", 0),
            ("break", "", 0),
            ("# nothing", "", 0),
            ("unset PATH; echo still", "still\n", 0),
            ("PATH=/usr/bin:/bin; echo() { :; }; printf() { :; }", "", 0),
            ("command printf x", "x", 0),
            ("head -c 300000 /dev/zero", "", 0),
        ];
        for (text, out, code) in cases {
            let seen = node.run(script(&id, text));
            assert_eq!(seen.ended(), Ended::Code(code), "{shell}: {text}: {seen:?}");
            if text.starts_with("head") {
                assert_eq!(seen.stdout.len(), 300_000);
            } else {
                assert_eq!(seen.out(), out, "{shell}: {text}");
            }
        }
        let seen = node.run(script(&id, "if"));
        assert!(
            seen.err().contains("yntax error") && seen.ended() == Ended::Code(2),
            "{seen:?}"
        );
        assert!(matches!(
            node.run(script(&id, "a\0b")).ended(),
            Ended::FailedToStart(_)
        ));
        assert_eq!(node.run(script(&id, "pwd")).out(), "/tmp\n");
        close(&mut node, &id);
    }
}

#[test]
fn no_output_and_no_descriptor_forges_an_end() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = open(&mut node, "/bin/bash");
    let forge = "echo 0; for n in 3 4 5 10 11 12 13; do { echo 0000000000000000 0 >&$n; } 2>/dev/null; \
                 for p in $$ $PPID; do sh -c \"echo 0000000000000000 0 >/proc/$p/fd/$n\" 2>/dev/null; done; done; \
                 ls /proc/self/fd | wc -l; sh -c 'exit 3'";
    let seen = node.run(script(&id, forge));
    assert_eq!(seen.ended(), Ended::Code(3), "{seen:?}");
    let fds: u32 = seen.out().lines().last().unwrap().trim().parse().unwrap();
    assert!(fds <= 5, "descriptors leak into commands: {fds}");
    assert_eq!(node.run(script(&id, "echo fine")).out(), "fine\n");
}

#[test]
fn one_at_a_time_with_input_of_its_own() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = open(&mut node, "");
    let cat = node.start(ExecStart {
        stdin: true,
        ..script(&id, "echo on; cat; echo off")
    });
    node.until_out(&cat, "on");
    let Ended::FailedToStart(reason) = node.run(script(&id, "true")).ended() else {
        panic!("two at once");
    };
    assert!(reason.contains("busy"), "{reason}");
    node.stdin(&cat, 0, b"typed\n", false);
    node.until_out(&cat, "typed");
    node.stdin(&cat, 6, b"", true);
    assert_eq!(node.finish(&cat).out(), "on\ntyped\noff\n");

    let first = node.start(ExecStart {
        stdin: true,
        ..script(&id, "echo go; sleep 0.2")
    });
    node.until_out(&first, "go");
    node.stdin(&first, 0, b"never read\n", false);
    node.finish(&first);
    let next = ExecStart {
        stdin: true,
        ..script(&id, "read line; echo got $line")
    };
    let next = node.start(next);
    node.stdin(&next, 0, b"mine\n", true);
    assert_eq!(node.finish(&next).out(), "got mine\n");
}

#[test]
fn a_timeout_ends_the_script_whole_and_the_session_with_it() {
    let agent = Agent::start();
    let mut node = agent.node();
    let scripts = [
        "echo on; sleep 1000; echo after; sleep 1000",
        "echo on; (sleep 1000; echo after) | cat; echo after",
        "echo on; sh -c 'trap \"\" TERM; while :; do sleep 1; done'; echo after",
        "echo on; trap 'echo after' TERM EXIT; while :; do :; done; echo after",
    ];
    for (shell, text) in ["/bin/bash", "/bin/dash"]
        .into_iter()
        .flat_map(|shell| scripts.map(|text| (shell, text)))
    {
        let id = open(&mut node, shell);
        let background = node.run(script(&id, "sleep 1000 & echo $!")).out();
        let exec = node.start(ExecStart {
            timeout_ms: 200,
            kill_grace_ms: 200,
            ..script(&id, text)
        });
        let seen = node.finish(&exec);
        assert_eq!(seen.ended(), Ended::TimedOut(true), "{shell}: {text}");
        assert_eq!(
            (seen.out(), seen.err()),
            ("on\n".to_owned(), String::new()),
            "{shell}: {text}"
        );
        for pid in [seen.pid.unwrap(), background.trim().parse().unwrap()] {
            assert!(!alive(pid), "{shell}: {text}: something outlived its end");
        }
        node.until("close", |node| !node.sessions[&id].open);
        let next = node.run(script(&id, "true"));
        assert!(matches!(next.ended(), Ended::FailedToStart(_)), "{next:?}");
    }
}

#[test]
fn a_signal_is_for_what_the_shell_runs() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = open(&mut node, "");
    let long = node.start(script(
        &id,
        "X=kept; sh -c 'echo on; exec sleep 1000'; echo after",
    ));
    node.until_out(&long, "on");
    node.signal(&long, 9);
    assert!(node.finish(&long).out().contains("after"));
    assert_eq!(node.run(script(&id, "echo $X")).out(), "kept\n");
}

#[test]
fn its_end_is_told_and_remembered_and_takes_all_with_it() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = open(&mut node, "");
    node.reconnect();
    assert_eq!(
        node.hello.as_ref().unwrap().sessions,
        std::slice::from_ref(&id)
    );
    assert_eq!(
        node.run(script(&id, "echo bye; exit 9")).ended(),
        Ended::Code(9)
    );
    node.until("close", |node| !node.sessions[&id].open);
    node.reconnect();
    assert!(node.hello.as_ref().unwrap().sessions.is_empty());
    node.sessions.clear();
    node.send(To::SessionOpen(SessionOpen {
        session_id: id.clone(),
        ..SessionOpen::default()
    }));
    node.until("state", |node| node.sessions.contains_key(&id));
    assert!(
        !node.sessions[&id].open,
        "an ended session came back without its state"
    );

    let id = open(&mut node, "");
    let started = node.run(script(
        &id,
        "nohup setsid sleep 1000 >/dev/null 2>&1 & echo $!",
    ));
    let stubborn: u32 = started.out().trim().parse().unwrap();
    let running = node.start(script(&id, "echo on; exec sleep 1000"));
    node.until_out(&running, "on");
    close(&mut node, &id);
    assert!(matches!(
        node.finish(&running).ended(),
        Ended::Signal(1 | 9)
    ));
    assert!(!alive(stubborn), "something outlived its session");

    let id = open(&mut node, "/no/shell");
    assert!(!node.sessions[&id].open && node.sessions[&id].error.contains("not found"));
    let opened: Vec<_> = (0..5).map(|_| open(&mut node, "")).collect();
    assert!(opened.iter().all(|id| node.sessions[id].open));
    let sixth = open(&mut node, "");
    assert!(!node.sessions[&sixth].open);
    // For the node it is over once it is told to close, however long what runs in it takes to go.
    let stubborn = node.start(script(
        &opened[0],
        "trap '' HUP; echo on; while :; do sleep 1; done",
    ));
    node.until_out(&stubborn, "on");
    node.send(To::SessionClose(SessionClose {
        session_id: opened[0].clone(),
        kill_grace_ms: 60_000,
    }));
    let next = open(&mut node, "");
    assert!(node.sessions[&next].open, "{:?}", node.sessions[&next]);
}
