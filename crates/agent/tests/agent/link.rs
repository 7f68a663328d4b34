//! The link: cut, replaced, abused; and what the agent weighs.

use std::io::Write;
use std::os::unix::process::CommandExt;

use bytes::BytesMut;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::*;
use skerry_proto::frame;

use crate::node::*;

/// Numbers that differ from run to run of the loop, but not from run to run of the test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn cuts_at_any_point_lose_and_double_nothing() {
    let agent = Agent::start();
    let mut node = agent.node();
    let mut dice = Dice(0x9e37_79b9);
    let script = "i=0; while [ $i -lt 150000 ]; do echo $i; i=$((i+1)); done; exit 9";
    let id = node.start(sh(script));
    let mut cuts = 0;
    while node.execs[&id].end.is_none() {
        for _ in 0..dice.below(4) {
            if node.execs[&id].end.is_none() {
                node.read();
            }
        }
        node.reconnect();
        cuts += 1;
        let after_seq = node.execs[&id].last;
        let exec_id = id.clone();
        if node.execs[&id].end.is_none() {
            node.send(To::ExecAttach(ExecAttach { exec_id, after_seq }));
        }
    }
    let seen = &node.execs[&id];
    let want: Vec<u8> = (0..150_000)
        .flat_map(|i| format!("{i}\n").into_bytes())
        .collect();
    assert!(seen.stdout == want, "{} bytes", seen.stdout.len());
    assert_eq!(seen.ended(), Ended::Code(9));
    assert!(cuts > 5, "only {cuts} cuts");
}

#[test]
fn a_start_that_is_repeated_starts_once_and_an_end_waits_to_be_acknowledged() {
    let agent = Agent::start();
    let mut node = agent.node();
    node.acks = false;
    let file = agent.dir.path().join("starts");
    let start = sh(&format!("echo x >> {}; echo out", file.display()));
    let id = node.start(start.clone());
    let first = node.finish(&id);
    node.reconnect();
    node.execs.clear();
    node.acks = true;
    let id = node.start(start);
    let again = node.finish(&id);
    assert_eq!(
        (first.stdout, first.end, first.pid),
        (again.stdout, again.end, again.pid)
    );
    assert_eq!(std::fs::read_to_string(file).unwrap(), "x\n");
    for exec_id in [id, new_id()] {
        let after_seq = 0;
        node.execs.remove(&exec_id);
        node.send(To::ExecAttach(ExecAttach {
            exec_id: exec_id.clone(),
            after_seq,
        }));
        node.until("unknown", |node| {
            node.execs.get(&exec_id).is_some_and(|seen| seen.unknown)
        });
    }
}

#[test]
fn a_new_link_replaces_a_silent_one() {
    let agent = Agent::start();
    let mut old = agent.node();
    let id = old.start(sh("echo on; sleep 1000"));
    old.until_out(&id, "on");
    let mut new = agent.node();
    assert_eq!(new.run(command(&["true"])).ended(), Ended::Code(0));
    new.execs.insert(
        id.clone(),
        Seen {
            last: 1,
            ..Seen::default()
        },
    );
    new.signal(&id, 9);
    new.send(To::ExecAttach(ExecAttach {
        exec_id: id.clone(),
        after_seq: 1,
    }));
    assert_eq!(new.finish(&id).ended(), Ended::Signal(9));
}

#[test]
fn nonsense_drops_the_link_and_nothing_else() {
    let agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(sh("echo on; sleep 1000; exit 1"));
    node.until_out(&id, "on");
    let mut dice = Dice(42);
    for round in 0..100 {
        let mut bytes: Vec<u8> = (0..dice.below(400))
            .map(|_| dice.below(256) as u8)
            .collect();
        if round % 2 == 0 {
            let len = u32::try_from(bytes.len()).unwrap();
            bytes.splice(0..0, len.to_le_bytes());
        }
        // The agent may have hung up half-way.
        let _ = node.stream.write_all(&bytes);
        node.reconnect();
    }
    let exec_id = bytes::Bytes::from_static(b"short");
    node.send(To::ExecStart(ExecStart {
        exec_id,
        ..sh("true")
    }));
    let id_unknown = 99;
    node.send(To::Credit(Credit {
        id: id_unknown,
        bytes: u32::MAX,
    }));
    node.send(To::Cancel(Cancel { id: id_unknown }));
    let exec_id = id.clone();
    node.send(To::ExecAck(ExecAck {
        exec_id: exec_id.clone(),
        seq: u64::MAX,
    }));
    node.stdin(&id, u64::MAX, b"x", true);
    let size = TtySize {
        cols: u32::MAX,
        rows: 0,
    };
    node.send(To::ExecResize(ExecResize { exec_id, size }));
    node.signal(&id, 9);
    node.until("answer", |_| true);
    assert_eq!(node.run(command(&["true"])).ended(), Ended::Code(0));
}

#[test]
fn more_data_than_credit_drops_the_link() {
    let agent = Agent::start();
    let mut node = agent.node();
    let path = agent.dir.path().join("big");
    let path = b(path.to_str().unwrap());
    // A transfer that nobody can take in: its parent is no directory.
    let id = node.ask(Call::Watch(Watch {
        path: b(agent.dir.path().to_str().unwrap()),
        recursive: false,
    }));
    node.reply(id);
    for _ in 0..8 {
        let data = vec![0; frame::CHUNK_BYTES].into();
        let mut out = BytesMut::new();
        let body = Some(To::Data(Data {
            id,
            data,
            eof: false,
        }));
        frame::encode(&ToAgent { body }, &mut out);
        let _ = node.stream.write_all(&out);
    }
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut node.stream, &mut rest);
    node.reconnect();
    assert!(matches!(
        node.call(Call::Stat(Stat { path })),
        Reply::Failed(_)
    ));
}

#[test]
fn it_is_small_and_stays_small_under_a_flood() {
    assert!(
        skerry_agent_bin::AGENT.len() < 3_000_000,
        "{}",
        skerry_agent_bin::AGENT.len()
    );
    let agent = Agent::start();
    let mut node = agent.node();
    node.run(command(&["true"]));
    assert!(agent.memory("Rss") < 4000, "{} kB", agent.memory("Rss"));
    assert!(agent.memory("Pss") < 3000, "{} kB", agent.memory("Pss"));

    node.acks = false;
    let id = node.start(command(&["head", "-c", "200000000", "/dev/zero"]));
    let mut total = 0;
    let mut peak = 0;
    while node.execs[&id].end.is_none() {
        node.read();
        let seen = node.execs.get_mut(&id).unwrap();
        total += seen.stdout.len();
        seen.stdout.clear();
        let seq = seen.last;
        peak = peak.max(agent.memory("Rss"));
        node.send(To::ExecAck(ExecAck {
            exec_id: id.clone(),
            seq,
        }));
    }
    assert_eq!(total, 200_000_000);
    assert!(peak < 4000, "{peak} kB while 200 MB went through");
}

#[test]
fn a_process_waits_while_nobody_acknowledges() {
    let agent = Agent::start();
    let mut node = agent.node();
    node.acks = false;
    let id = node.start(command(&["head", "-c", "10000000", "/dev/zero"]));
    node.until("a full window", |node| {
        node.execs[&id].stdout.len() + 65536 > WINDOW_BYTES
    });
    assert_eq!(
        node.run(command(&["echo", "others go on"])).ended(),
        Ended::Code(0)
    );
    assert!(node.execs[&id].stdout.len() <= WINDOW_BYTES && node.execs[&id].end.is_none());
    node.acks = true;
    let seq = node.execs[&id].last;
    node.send(To::ExecAck(ExecAck {
        exec_id: id.clone(),
        seq,
    }));
    assert_eq!(node.finish(&id).stdout.len(), 10_000_000);
}

#[test]
fn shutdown_ends_all_and_then_itself() {
    let mut agent = Agent::start();
    let mut node = agent.node();
    let id = node.start(sh(
        "trap '' TERM; setsid sleep 1000 & echo $!; while :; do sleep 1; done",
    ));
    node.until_out(&id, "\n");
    node.send(To::Shutdown(Shutdown { kill_grace_ms: 100 }));
    let seen = node.finish(&id);
    assert_eq!(seen.ended(), Ended::Signal(9));
    assert!(agent.wait().success());
    assert!(!alive(seen.out().trim().parse().unwrap()));
}

#[test]
fn one_link_for_life_can_be_handed_over() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = std::process::Command::new(binary());
    command.arg("--connected");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&theirs);
    hand_over(&mut command, fd);
    let mut process = command.spawn().unwrap();
    drop(theirs);
    let mut ours = ours;
    let mut first = [0; 4];
    std::io::Read::read_exact(&mut ours, &mut first).unwrap();
    assert!(u32::from_le_bytes(first) < 100);
    drop(ours);
    assert!(
        process.wait().unwrap().success(),
        "without a link there is nothing to live for"
    );
}

/// Puts a descriptor at 3 in the child.
#[expect(unsafe_code, reason = "there is no safe way to place a descriptor")]
fn hand_over(command: &mut std::process::Command, fd: i32) {
    // SAFETY: dup2 is a plain system call.
    unsafe {
        command.pre_exec(move || {
            if libc::dup2(fd, 3) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
