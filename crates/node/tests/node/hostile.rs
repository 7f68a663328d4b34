//! An agent that keeps to no rule: the node stays what it is, nobody else notices, and no end is made up.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use skerry_proto::agent::from_agent::Body as From;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::*;
use skerry_proto::frame;
use skerry_proto::node::{
    Execs, Files, Map, OpenSession, Ports, Sandboxes, Sessions, StartExec, TtySize,
};
use skerry_types::{ErrorCode, ExecEnd, ExecId, SandboxState, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Duration, timeout};

use crate::bed::{Bed, Island, sh};

/// The far end of the link of a sandbox, and all later ones.
struct Impostor {
    links: UnboundedReceiver<DuplexStream>,
    link: DuplexStream,
    input: BytesMut,
}

impl Impostor {
    async fn of(bed: &Bed, island: &Island) -> Self {
        let mut links = bed.world.replace_agent(island.id);
        let link = links.recv().await.unwrap();
        Self {
            links,
            link,
            input: BytesMut::new(),
        }
    }

    /// Waits for the next link.
    async fn again(&mut self) {
        self.link = self.links.recv().await.unwrap();
        self.input.clear();
    }

    /// Breaks the link, and waits for the next.
    async fn cut(&mut self) {
        self.link = tokio::io::duplex(1).0;
        self.again().await;
    }

    /// Begins as an agent should.
    async fn greet(&mut self) {
        self.say(From::Hello(AgentHello::default())).await;
    }

    /// The next thing it is asked for.
    async fn asked(&mut self) -> Request {
        loop {
            if let To::Request(request) = self.hear().await.expect("a request") {
                return request;
            }
        }
    }

    async fn say(&mut self, body: From) {
        let mut wire = BytesMut::new();
        frame::encode(&FromAgent { body: Some(body) }, &mut wire);
        self.send(&wire).await;
    }

    /// Whatever the node takes of it.
    async fn send(&mut self, bytes: &[u8]) {
        let _broken = self.link.write_all(bytes).await;
    }

    /// What the node says next; `None` when it breaks the link.
    async fn hear(&mut self) -> Option<To> {
        loop {
            if let Some(message) = frame::decode::<ToAgent>(&mut self.input).unwrap() {
                return message.body;
            }
            if self.link.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Until the node breaks the link. What it acknowledged before.
    async fn until_broken(&mut self) -> Vec<ExecAck> {
        let mut acks = Vec::new();
        while let Some(said) = self.hear().await {
            if let To::ExecAck(ack) = said {
                acks.push(ack);
            }
        }
        acks
    }

    /// Until so much of an exec is acknowledged.
    async fn until_acked(&mut self, seq: u64) {
        while !matches!(self.hear().await.expect("an acknowledgement"), To::ExecAck(ack) if ack.seq == seq)
        {
        }
    }
}

fn id(exec: ExecId) -> Bytes {
    Bytes::copy_from_slice(&exec.bytes())
}

fn output(exec_id: Bytes, seq: u64, data: impl Into<Bytes>) -> From {
    From::ExecOutput(ExecOutput {
        exec_id,
        seq,
        stream: STDOUT,
        data: data.into(),
    })
}

fn end(exec_id: Bytes, seq: u64, ended: Option<Ended>) -> From {
    From::ExecEnded(ExecEnded {
        exec_id,
        seq,
        ended,
        cpu_ms: u64::MAX,
        peak_memory_bytes: u64::MAX,
        duration_ms: u64::MAX,
    })
}

fn answer(reply: Reply) -> From {
    From::Response(Response {
        id: 1,
        reply: Some(reply),
    })
}

fn wire(body: From) -> Vec<u8> {
    let mut wire = BytesMut::new();
    frame::encode(&FromAgent { body: Some(body) }, &mut wire);
    wire.to_vec()
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_keeps_nobody_from_stopping_it() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let terminal = StartExec {
        tty: Some(TtySize { cols: 80, rows: 24 }),
        ..sh("cat")
    };
    let exec = island.start(terminal).await;
    let _deaf = Impostor::of(&bed, &island).await;
    let mut told = 0;
    // Of the simulated clock.
    let long = Duration::from_secs(1);
    let size = TtySize { cols: 81, rows: 25 };
    while let Ok(done) = timeout(long, island.node.exec_resize(island.id, exec, size)).await {
        done.unwrap();
        told += 1;
        assert!(told < 1 << 20, "what it does not read is not bounded");
    }
    island.node.stop(island.id, None).await.unwrap();
    island.node.stop(island.id, None).await.unwrap();
    island.until(SandboxState::Stopped).await;
    let refused = timeout(long, island.node.start_exec(island.id, sh("true"))).await;
    assert_eq!(
        refused.unwrap().unwrap_err().code,
        ErrorCode::SandboxNotRunning
    );
    island.node.delete(island.id).await.unwrap();
}

/// What no agent may say while `exec` runs whose last event was number 1.
fn absurdities(exec: ExecId) -> Vec<(&'static str, Vec<u8>)> {
    let stranger = || id(ExecId::new());
    let code = || Some(Ended::Code(0));
    let entries = vec![Entry::default(); 400_000];
    let sessions = vec![Bytes::new(); 400_000];
    let processes = vec![Process::default(); 400_000];
    let hello = AgentHello {
        sessions,
        ..AgentHello::default()
    };
    let entries = Reply::Entries(Entries {
        entries,
        more: true,
    });
    vec![
        ("garbage", vec![0x5a; 4096]),
        ("a giant", u32::MAX.to_le_bytes().to_vec()),
        ("no protobuf", [&[3, 0, 0, 0], &[0xff; 3][..]].concat()),
        ("output of a stranger", wire(output(stranger(), 1, "lie"))),
        ("the end of a stranger", wire(end(stranger(), 1, code()))),
        ("output with a gap", wire(output(id(exec), 3, "lie"))),
        (
            "a large chunk",
            wire(output(id(exec), 2, vec![b'x'; frame::CHUNK_BYTES + 1])),
        ),
        ("an end with a gap", wire(end(id(exec), 9, code()))),
        ("an end out of the past", wire(end(id(exec), 1, code()))),
        ("an end that is none", wire(end(id(exec), 2, None))),
        ("many entries", wire(answer(entries))),
        ("many sessions", wire(From::Hello(hello))),
        (
            "many processes",
            wire(answer(Reply::Processes(Processes { processes }))),
        ),
    ]
}

/// What an agent may say, and what changes nothing.
fn noise() -> Vec<From> {
    let request_id = 1 << 40;
    let unknown = Bytes::from_static(b"no id");
    vec![
        output(unknown.clone(), 1, "lie"),
        end(unknown.clone(), 1, Some(Ended::Code(0))),
        From::ExecUnknown(ExecUnknown {
            exec_id: id(ExecId::new()),
        }),
        From::ExecStarted(ExecStarted {
            exec_id: id(ExecId::new()),
            pid: 1,
            stdin_offset: u64::MAX,
        }),
        From::ExecStdinAck(ExecStdinAck {
            exec_id: id(ExecId::new()),
            offset: u64::MAX,
            closed: true,
        }),
        From::SessionState(SessionState {
            session_id: Bytes::copy_from_slice(&[9; 16]),
            open: true,
            error: "x".repeat(1000),
        }),
        From::Response(Response {
            id: request_id,
            reply: None,
        }),
        From::Data(Data {
            id: request_id,
            data: unknown.clone(),
            eof: false,
        }),
        From::Credit(Credit {
            id: request_id,
            bytes: u32::MAX,
        }),
        From::Watched(Watched {
            id: request_id,
            kind: 99,
            path: unknown,
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_not_heard_and_changes_nothing() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let other = bed.second(&island).await;
    let exec = island.start(sh("echo true; sleep 1000")).await;
    assert_eq!(island.until_out(exec, 5).await, b"true\n");
    let mut impostor = Impostor::of(&bed, &island).await;
    for (what, said) in absurdities(exec) {
        impostor.send(&said).await;
        let acks = impostor.until_broken().await;
        assert!(acks.is_empty(), "{what} was acknowledged: {acks:?}");
        let known = island.exec(exec).await;
        assert_eq!((known.end, known.stdout_bytes), (None, 5), "{what}");
        assert_eq!(other.ok("echo well").await, "well\n", "{what}");
        impostor.again().await;
    }
    // Half a frame, and silence.
    impostor.send(&[200, 0, 0, 0, 1]).await;
    assert_eq!(other.ok("echo well").await, "well\n");
    drop(impostor);
    assert_eq!(island.ok("echo back").await, "back\n");
    island.node.exec_signal(island.id, exec, 9).await.unwrap();
    let finished = island.finish(exec).await;
    assert_eq!(finished.stdout, b"true\n");
    assert_eq!(finished.end, ExecEnd::Signaled { signal: 9 });
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_nothing_is_worked_off_and_an_end_is_told_once() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let other = bed.second(&island).await;
    let exec = island.start(sh("echo true; sleep 1000")).await;
    island.until_out(exec, 5).await;
    let mut impostor = Impostor::of(&bed, &island).await;
    let round: Vec<u8> = noise().into_iter().flat_map(wire).collect();
    for _ in 0..2000 {
        impostor.send(&round).await;
    }
    assert_eq!(other.ok("echo well").await, "well\n");
    assert!(
        island
            .node
            .list_sessions(island.id)
            .await
            .unwrap()
            .is_empty()
    );
    impostor.say(output(id(exec), 2, "more\n")).await;
    impostor.say(end(id(exec), 3, Some(Ended::Code(3)))).await;
    impostor.until_acked(3).await;
    for code in [0, 3, 7] {
        impostor
            .say(end(id(exec), 3, Some(Ended::Code(code))))
            .await;
        impostor
            .say(end(id(exec), 4, Some(Ended::Code(code))))
            .await;
        impostor.say(output(id(exec), 3, "after the end")).await;
    }
    impostor
        .say(From::ExecUnknown(ExecUnknown { exec_id: id(exec) }))
        .await;
    impostor.until_acked(4).await;
    let finished = island.finish(exec).await;
    assert_eq!(finished.stdout, b"true\nmore\n");
    assert_eq!(finished.end, ExecEnd::Exited { code: 3 });
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_denies_or_says_nothing_ends_nothing_but_its_own() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let other = bed.second(&island).await;
    let denied = island.start(sh("echo true; sleep 1000")).await;
    island.until_out(denied, 5).await;
    let quiet = island.start(sh("sleep 1000")).await;
    let mut impostor = Impostor::of(&bed, &island).await;
    impostor
        .say(From::ExecUnknown(ExecUnknown {
            exec_id: id(denied),
        }))
        .await;
    assert_eq!(island.finish(denied).await.end, ExecEnd::NodeLost);
    assert_eq!(island.exec(quiet).await.end, None);
    // It never answers: whoever asks hears of that.
    island.node.stat(island.id, "/tmp").await.unwrap_err();
    assert_eq!(other.ok("echo well").await, "well\n");
    island.node.stop(island.id, None).await.unwrap();
    island.until(SandboxState::Stopped).await;
    assert_eq!(island.finish(quiet).await.end, ExecEnd::SandboxStopped);
}

#[tokio::test(start_paused = true)]
async fn a_signal_was_sent_or_its_sender_is_told() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("sleep 1000")).await;
    let mut impostor = Impostor::of(&bed, &island).await;
    impostor.greet().await;
    let signal = || island.node.exec_signal(island.id, exec, 10);
    let (cut, ()) = tokio::join!(signal(), async {
        assert!(matches!(impostor.asked().await.call, Some(Call::Signal(_))));
        // It took the signal with it.
        impostor.cut().await;
    });
    assert_eq!(cut.unwrap_err().code, ErrorCode::SandboxNotRunning);
    let (late, ()) = tokio::join!(signal(), async {
        // Not before it is known what the agent has.
        impostor.greet().await;
        let id = impostor.asked().await.id;
        let reply = Some(Reply::Done(Done { bytes: 0 }));
        impostor.say(From::Response(Response { id, reply })).await;
    });
    late.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_opens_no_session_keeps_nobody_waiting() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let mut impostor = Impostor::of(&bed, &island).await;
    impostor.greet().await;
    let id = SessionId::new();
    let request = OpenSession {
        id,
        shell: None,
        env: Map::new(),
        cwd: None,
        user: None,
    };
    let silent = island.node.open_session(island.id, request).await;
    assert_eq!(silent.unwrap_err().code, ErrorCode::InternalError);
    // One that nobody waits for any more is ended.
    let late = SessionState {
        session_id: Bytes::copy_from_slice(&id.bytes()),
        open: true,
        error: String::new(),
    };
    impostor.say(From::SessionState(late)).await;
    while !matches!(impostor.hear().await, Some(To::SessionClose(_))) {}
}

/// What an agent may not say of a connection, after it said that it stands.
fn false_tellings(id: u64) -> Vec<(&'static str, Vec<From>)> {
    let data = |bytes, eof| {
        let data = vec![0; bytes].into();
        From::Data(Data { id, data, eof })
    };
    let credit = |bytes| From::Credit(Credit { id, bytes });
    let window = DIAL_WINDOW_BYTES as usize;
    let reply = Some(Reply::Done(Done { bytes: 0 }));
    vec![
        (
            "more than the window",
            vec![data(window, false), data(1, false)],
        ),
        ("more pieces than it holds", vec![data(1, false); window]),
        (
            "something after the end",
            vec![data(0, true), data(1, false)],
        ),
        (
            "that it stands, twice",
            vec![From::Response(Response { id, reply })],
        ),
        ("credit without end", vec![credit(u32::MAX); 1000]),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_of_a_connection_ends_that_and_nothing_else() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let mut impostor = Impostor::of(&bed, &island).await;
    impostor.greet().await;
    for number in 0..false_tellings(0).len() {
        let nothing = || futures::stream::pending().boxed();
        let (dialled, id) = tokio::join!(island.node.dial(island.id, 80, nothing()), async {
            let id = impostor.asked().await.id;
            let reply = Some(Reply::Done(Done { bytes: 0 }));
            impostor.say(From::Response(Response { id, reply })).await;
            id
        });
        let mut heard = dialled.unwrap();
        let (what, told) = false_tellings(id).swap_remove(number);
        for said in told {
            impostor.say(said).await;
        }
        while !matches!(impostor.hear().await, Some(To::Cancel(cancel)) if cancel.id == id) {}
        while let Some(Ok(_)) = heard.next().await {}
        assert!(heard.next().await.is_none(), "{what}");
    }
}
