//! Commands: what they get, what comes out, how they end.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, TryRecvError};

use rustix::process::{Pid, Signal, kill_process};
use skerry_proto::agent::*;

use crate::node::*;

#[test]
fn output_codes_and_signals_are_what_they_were() {
    let agent = Agent::start();
    let mut node = agent.node();
    let seen = node.run(sh("printf 'a\\377\\000b'; echo bad >&2; exit 42"));
    assert_eq!(
        (&seen.stdout[..], seen.err().as_str()),
        (&b"a\xff\0b"[..], "bad\n")
    );
    assert_eq!(seen.ended(), Ended::Code(42));
    assert_eq!(node.run(sh("kill -9 $$")).ended(), Ended::Signal(9));
    assert_eq!(node.run(command(&["echo", "$HOME"])).out(), "$HOME\n");
}

#[test]
fn what_cannot_start_says_why_and_has_no_code() {
    let agent = Agent::start();
    let mut node = agent.node();
    let script = agent.dir.path().join("script");
    std::fs::write(&script, "#!/nowhere/interpreter\n").unwrap();
    let script = script.to_str().unwrap();
    let mut cases = vec![
        (
            command(&["no-such-program"]),
            "command not found: no-such-program",
        ),
        (command(&["/no/such"]), "command not found: /no/such"),
        (command(&[script]), "permission denied"),
        (command(&["/tmp"]), "permission denied"),
        (command(&[]), "empty"),
        (command(&["a\0b"]), "NUL"),
        (
            ExecStart {
                cwd: b("/no/dir"),
                ..sh("true")
            },
            "cwd /no/dir does not exist",
        ),
        (
            ExecStart {
                cwd: b("/etc/passwd"),
                ..sh("true")
            },
            "not a directory",
        ),
        (
            ExecStart {
                user: "nobody-here".into(),
                ..sh("true")
            },
            "no user",
        ),
        (
            ExecStart {
                session_id: new_id(),
                ..sh("true")
            },
            "no such session",
        ),
    ];
    let path = vec![EnvVar {
        name: b("PATH"),
        value: b("/nowhere"),
    }];
    cases.push((
        ExecStart {
            env: path,
            ..command(&["true"])
        },
        "command not found: true",
    ));
    for (start, text) in cases {
        let seen = node.run(start);
        let Ended::FailedToStart(reason) = seen.ended() else {
            panic!("{text}: {seen:?}");
        };
        assert!(reason.contains(text), "{reason:?} lacks {text:?}");
        assert_eq!(seen.pid, Some(0));
    }
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(
        node.run(command(&[script])).ended(),
        Ended::FailedToStart(_)
    ));
}

#[test]
fn a_child_inherits_nothing_but_what_it_was_given() {
    let agent = Agent::start();
    let mut node = agent.node();
    let status = node.run(command(&["cat", "/proc/self/status"])).out();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    for set in [
        "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigBlk", "SigIgn",
    ] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    let fds = node.run(command(&["ls", "/proc/self/fd"])).out();
    assert_eq!(
        fds.split_whitespace().count(),
        4,
        "0, 1, 2 and the listing itself: {fds}"
    );
    let seen = node.run(sh(
        "cat /proc/self/oom_score_adj; ps -o pid= -o pgid= -o sid= -p $$",
    ));
    let numbers: Vec<&str> = seen.stdout_words();
    assert_eq!(numbers[0], "500");
    assert!(numbers[1] == numbers[2] && numbers[2] == numbers[3]);
    let env = node.run(ExecStart {
        env: vec![EnvVar {
            name: b("HOME"),
            value: b("/x"),
        }],
        ..command(&["env"])
    });
    let mut names: Vec<_> = env.out().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names[0], "HOME=/x");
    assert_eq!(names.len(), 5, "{names:?}");
}

impl Seen {
    fn stdout_words(&self) -> Vec<&str> {
        std::str::from_utf8(&self.stdout)
            .unwrap()
            .split_whitespace()
            .collect()
    }
}

#[test]
fn at_level_root_uid_0_keeps_its_powers_and_others_have_none() {
    let agent = Agent::with(&["--level", "root"]);
    let mut node = agent.node();
    let script = "grep -E 'CapEff|NoNewPrivs' /proc/self/status";
    let root = node.run(sh(script)).out();
    assert!(!root.contains("CapEff:\t0000000000000000") && root.contains("NoNewPrivs:\t0"));
    let nobody = node
        .run(ExecStart {
            user: "65534".into(),
            ..sh(script)
        })
        .out();
    assert!(nobody.contains("CapEff:\t0000000000000000"), "{nobody}");
}

#[test]
fn users_are_switched_whole() {
    let agent = Agent::start();
    let mut node = agent.node();
    let seen = node.run(ExecStart {
        user: "4242:4343".into(),
        ..command(&["id"])
    });
    assert_eq!(seen.out(), "uid=4242 gid=4343 groups=4343\n");
    let seen = node.run(ExecStart {
        user: "4242".into(),
        ..sh("echo $USER; id -u; touch /etc/x")
    });
    assert!(seen.out().starts_with("4242\n4242\n") && seen.err().contains("denied"));
}

#[test]
fn a_timeout_ends_the_whole_family_and_wins_over_the_code() {
    let agent = Agent::start();
    let mut node = agent.node();
    let script = "trap '' TERM; sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait";
    let start = ExecStart {
        timeout_ms: 300,
        kill_grace_ms: 200,
        ..sh(script)
    };
    let seen = node.run(start);
    assert_eq!(seen.ended(), Ended::TimedOut(true));
    let pids = seen.stdout_words();
    assert_eq!(pids.len(), 2);
    for pid in pids {
        assert!(!alive(pid.parse().unwrap()), "{pid} outlived its timeout");
    }
    let script = "trap 'echo cleaned; exit 0' TERM; sleep 1000 & wait";
    let seen = node.run(ExecStart {
        timeout_ms: 300,
        ..sh(script)
    });
    assert_eq!(
        (seen.out().as_str(), seen.ended()),
        ("cleaned\n", Ended::TimedOut(true))
    );
}

#[test]
fn signals_reach_the_group() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(sh("sleep 1000 & echo ready; wait; sleep 1000"));
    node.until_out(&id, "ready");
    for nonsense in [0, -1, 1000] {
        node.signal(&id, nonsense);
    }
    node.signal(&id, 15);
    assert_eq!(node.finish(&id).ended(), Ended::Signal(15));
}

#[test]
fn a_signal_that_comes_before_the_program_is_not_the_agent_s() {
    const MANY: usize = 300;
    let agent = Agent::start();
    let mut node = agent.node();
    let pid = agent.process.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // What a child must put back before it lets signals in: SIGPIPE, SIGTERM and SIGCHLD.
    assert!(status.contains("SigIgn:\t0000000000001000"), "{status}");
    assert!(status.contains("SigCgt:\t0000000000014000"), "{status}");
    let (running, stop) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while stop.try_recv() == Err(TryRecvError::Empty) {
                let now = std::fs::read_to_string(&children).unwrap_or_default();
                for child in now.split_whitespace() {
                    let child = Pid::from_raw(child.parse().unwrap()).unwrap();
                    let _ = kill_process(child, Signal::TERM);
                }
            }
        });
        let _until_here = running;
        for _ in 0..MANY {
            let end = node.run(command(&["/bin/true"])).ended();
            assert!(matches!(end, Ended::Code(0) | Ended::Signal(15)), "{end:?}");
        }
    });
    assert_eq!(node.run(sh("echo on")).out(), "on\n");
}

#[test]
fn stdin_counts_each_byte_once_and_ends() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(ExecStart {
        stdin: true,
        ..command(&["cat"])
    });
    node.stdin(&id, 0, b"abc", false);
    node.stdin(&id, 1, b"bcde", false);
    node.stdin(&id, 99, b"lost", false);
    node.until("ack", |node| node.execs[&id].stdin_taken == 5);
    node.stdin(&id, 5, b"f", true);
    let seen = node.finish(&id);
    assert_eq!(
        (seen.out().as_str(), seen.ended()),
        ("abcdef", Ended::Code(0))
    );
    assert_eq!(
        node.run(command(&["cat"])).out(),
        "",
        "without stdin it is empty"
    );

    let id = node.start(ExecStart {
        stdin: true,
        ..sh("exec <&-; echo closed; sleep 1000")
    });
    node.until_out(&id, "closed");
    node.stdin(&id, 0, b"x", false);
    node.until("closing", |node| node.execs[&id].stdin_closed);
    node.signal(&id, 9);
    node.finish(&id);
}

#[test]
fn the_end_does_not_wait_for_a_background_child_but_has_all_that_was_written() {
    let agent = Agent::start();
    let mut node = agent.node();
    let script = "head -c 60000 /dev/zero; (while :; do echo noise; done) & exit 3";
    let seen = node.run(sh(script));
    assert_eq!(seen.ended(), Ended::Code(3));
    assert!(
        seen.stdout
            .split(|byte| *byte != 0)
            .any(|zeros| zeros.len() == 60000)
    );
}

#[test]
fn many_run_at_once_and_one_too_many_is_refused() {
    let agent = Agent::start();
    let mut node = agent.node();
    let started = std::time::Instant::now();
    let ids: Vec<_> = (0..20)
        .map(|_| node.start(command(&["sleep", "1"])))
        .collect();
    for id in &ids {
        assert_eq!(node.finish(id).ended(), Ended::Code(0));
    }
    assert!(started.elapsed().as_secs() < 15, "one after the other");

    let ids: Vec<_> = (0..256)
        .map(|_| node.start(command(&["sleep", "1000"])))
        .collect();
    node.until("start", |node| {
        ids.iter().all(|id| node.execs[id].pid.is_some())
    });
    let refused = node.start(command(&["true"]));
    assert!(matches!(
        node.finish(&refused).ended(),
        Ended::FailedToStart(_)
    ));
    for id in &ids {
        node.signal(id, 9);
    }
    for id in &ids {
        assert_eq!(node.finish(id).ended(), Ended::Signal(9));
    }
    assert_eq!(node.run(command(&["true"])).ended(), Ended::Code(0));
}

#[test]
fn usage_is_measured_with_waited_children() {
    let agent = Agent::start();
    let mut node = agent.node();
    let script = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; \
                  head -c 30000000 /dev/zero | tail -c 30000000 >/dev/null";
    let end = node.run(sh(script)).end.unwrap();
    assert!(end.cpu_ms > 20, "{end:?}");
    assert!(end.peak_memory_bytes > 25_000_000, "{end:?}");
    assert!(end.duration_ms >= 10, "{end:?}");
}

#[test]
fn orphans_are_reaped() {
    let agent = Agent::start();
    let mut node = agent.node();
    let seen = node.run(sh("(sleep 0.01 & echo $!)"));
    let pid: u32 = seen.out().trim().parse().unwrap();
    let limit = std::time::Instant::now() + PATIENCE;
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(std::time::Instant::now() < limit, "{pid} stays a zombie");
        std::thread::yield_now();
    }
}

#[test]
fn whoever_stops_a_command_before_it_begins_does_not_stop_the_agent() {
    let agent = Agent::start();
    let mut node = agent.node();
    let (caught, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                caught.fetch_or(stop_beginners(agent.process.id()), Ordering::Relaxed);
            }
        });
        while !caught.load(Ordering::Relaxed) {
            // One that is stopped right after it began runs into its timeout.
            let short = ExecStart {
                timeout_ms: 1000,
                kill_grace_ms: 0,
                ..command(&["/bin/true"])
            };
            match node.run(short).ended() {
                Ended::Code(0) | Ended::TimedOut(true) => {}
                Ended::FailedToStart(reason) => assert!(reason.contains("holds it up"), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(node.run(sh("echo well")).out(), "well\n");
}

/// Stops the agent's children that are still the agent's program. Whether one was held up by that.
fn stop_beginners(agent: u32) -> bool {
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(agent);
    let children = format!("/proc/{agent}/task/{agent}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let held = children.filter(|&pid| {
        let stop = |pid| kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP);
        program(pid) == own && stop(pid.cast_signed()).is_ok() && program(pid) == own
    });
    held.count() > 0
}
