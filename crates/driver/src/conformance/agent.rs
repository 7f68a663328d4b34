//! A small node: speaks agent.v1 over a link, keeps what it hears of each exec, and objects to gaps and repetitions.

use std::collections::{HashMap, HashSet};
use std::future::Future;

use bytes::{Bytes, BytesMut};
use skerry_proto::agent::from_agent::Body as From;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::{
    CREDIT_BYTES, Call, Credit, DIAL_WINDOW_BYTES, Data, Dial, Ended, ExecAck, ExecAttach,
    ExecStart, ExecStdin, FromAgent, GENERATION, NodeHello, Reply, Request, STDERR, SessionState,
    Signal, ToAgent, dial_cost,
};
use skerry_proto::frame;
use skerry_types::ExecId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::failure::{Failure, Verdict, ensure};
use crate::AgentLink;

/// What was heard of an exec. Outlives the link it was heard on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) started: bool,
    pub(crate) unknown: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The last event's number.
    pub(crate) last: u64,
    pub(crate) end: Option<Ended>,
    pub(crate) stdin_taken: u64,
}

impl Seen {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its output, if it exited with 0.
    pub(crate) fn ok(self) -> Verdict<String> {
        ensure!(
            self.end == Some(Ended::Code(0)),
            "ended with {:?}, said {:?} and {:?}",
            self.end,
            self.out(),
            String::from_utf8_lossy(&self.stderr)
        );
        Ok(self.out())
    }
}

/// See the module.
pub(crate) struct Agent {
    link: AgentLink,
    input: BytesMut,
    pub(crate) execs: HashMap<Bytes, Seen>,
    pub(crate) sessions: HashMap<Bytes, SessionState>,
    replies: HashMap<u64, Reply>,
    data: HashMap<u64, (Vec<u8>, bool)>,
    credit: HashMap<u64, u64>,
    /// Requests that are connections: their data counts differently.
    dials: HashSet<u64>,
    /// What watches saw, by request: kind and path.
    watched: HashMap<u64, Vec<(u32, Bytes)>>,
    /// Acknowledge what arrives.
    pub(crate) acks: bool,
    next_request: u64,
}

/// A program and its arguments.
pub(crate) fn command(argv: &[&str]) -> ExecStart {
    ExecStart {
        exec_id: Bytes::copy_from_slice(&ExecId::new().bytes()),
        argv: argv
            .iter()
            .map(|argument| Bytes::copy_from_slice(argument.as_bytes()))
            .collect(),
        cwd: Bytes::from_static(b"/"),
        kill_grace_ms: 100,
        ..ExecStart::default()
    }
}

/// A script.
pub(crate) fn sh(script: &str) -> ExecStart {
    command(&["/bin/sh", "-c", script])
}

/// A Python program.
pub(crate) fn python(program: &str) -> ExecStart {
    command(&["python3", "-I", "-c", program])
}

impl Agent {
    pub(crate) async fn greet(link: AgentLink) -> Verdict<Self> {
        let mut agent = Self {
            link,
            input: BytesMut::new(),
            execs: HashMap::new(),
            sessions: HashMap::new(),
            replies: HashMap::new(),
            data: HashMap::new(),
            credit: HashMap::new(),
            dials: HashSet::new(),
            watched: HashMap::new(),
            acks: true,
            next_request: 0,
        };
        agent
            .send(To::Hello(NodeHello {
                generation: GENERATION,
            }))
            .await?;
        match agent.next().await? {
            From::Hello(hello) if hello.generation >= 1 => Ok(agent),
            other => Err(Failure::new(format!("the agent's first words: {other:?}"))),
        }
    }

    /// A new link in the place of this one; what was heard is kept.
    pub(crate) async fn relink(self, link: AgentLink) -> Verdict<Self> {
        let mut next = Self::greet(link).await?;
        next.execs = self.execs;
        next.acks = self.acks;
        Ok(next)
    }

    pub(crate) async fn send(&mut self, body: To) -> Verdict {
        let mut out = BytesMut::new();
        frame::encode(&ToAgent { body: Some(body) }, &mut out);
        self.link.write_all(&out).await?;
        Ok(())
    }

    /// The next message. Safe to drop while it waits.
    async fn next(&mut self) -> Verdict<From> {
        loop {
            if let Some(message) = frame::decode::<FromAgent>(&mut self.input)? {
                if let Some(body) = message.body {
                    return Ok(body);
                }
            } else if self.link.read_buf(&mut self.input).await? == 0 {
                return Err(Failure::new("the agent closed the link"));
            }
        }
    }

    /// Takes in one message.
    async fn step(&mut self) -> Verdict {
        let body = self.next().await?;
        self.take(body).await
    }

    async fn take(&mut self, body: From) -> Verdict {
        match body {
            From::ExecStarted(started) => self.exec(started.exec_id).started = true,
            From::ExecUnknown(unknown) => self.exec(unknown.exec_id).unknown = true,
            From::ExecStdinAck(ack) => self.exec(ack.exec_id).stdin_taken = ack.offset,
            From::ExecOutput(output) => {
                let seen = self.exec(output.exec_id.clone());
                advance(seen, output.seq)?;
                let stream = if output.stream == STDERR {
                    &mut seen.stderr
                } else {
                    &mut seen.stdout
                };
                stream.extend_from_slice(&output.data);
                self.acknowledge(output.exec_id, output.seq).await?;
            }
            From::ExecEnded(ended) => {
                let seen = self.exec(ended.exec_id.clone());
                advance(seen, ended.seq)?;
                ensure!(ended.ended.is_some(), "an end that does not say how");
                seen.end = ended.ended;
                self.acknowledge(ended.exec_id, ended.seq).await?;
            }
            From::SessionState(state) => {
                self.sessions.insert(state.session_id.clone(), state);
            }
            From::Response(response) => {
                let reply = response.reply.ok_or(Failure::new("an empty answer"))?;
                self.replies.insert(response.id, reply);
            }
            From::Data(data) => {
                let bytes = if self.dials.contains(&data.id) {
                    dial_cost(data.data.len())
                } else {
                    data.data.len() as u32
                };
                let kept = self.data.entry(data.id).or_default();
                kept.0.extend_from_slice(&data.data);
                kept.1 |= data.eof;
                self.send(To::Credit(Credit { id: data.id, bytes })).await?;
            }
            From::Credit(credit) => {
                *self.credit.entry(credit.id).or_default() += u64::from(credit.bytes);
            }
            From::Watched(change) => {
                let seen = self.watched.entry(change.id).or_default();
                seen.push((change.kind, change.path));
            }
            From::Hello(_) => {}
        }
        Ok(())
    }

    fn exec(&mut self, id: Bytes) -> &mut Seen {
        self.execs.entry(id).or_default()
    }

    async fn acknowledge(&mut self, exec_id: Bytes, seq: u64) -> Verdict {
        if !self.acks {
            return Ok(());
        }
        self.send(To::ExecAck(ExecAck { exec_id, seq })).await
    }

    pub(crate) async fn until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Verdict {
        while !done(self) {
            self.step().await?;
        }
        Ok(())
    }

    /// Starts a command and does not wait for it.
    pub(crate) async fn start(&mut self, start: ExecStart) -> Verdict<Bytes> {
        let id = start.exec_id.clone();
        self.execs.entry(id.clone()).or_default();
        self.send(To::ExecStart(start)).await?;
        Ok(id)
    }

    /// Asks for the events of an exec after those that were heard.
    pub(crate) async fn attach(&mut self, id: &Bytes) -> Verdict {
        let after_seq = self.exec(id.clone()).last;
        let exec_id = id.clone();
        self.send(To::ExecAttach(ExecAttach { exec_id, after_seq }))
            .await
    }

    pub(crate) fn seen(&self, id: &Bytes) -> Seen {
        self.execs.get(id).cloned().unwrap_or_default()
    }

    /// Until this much of its output is here.
    pub(crate) async fn until_out(&mut self, id: &Bytes, bytes: usize) -> Verdict {
        self.until(|agent| {
            let seen = agent.execs.get(id);
            seen.is_some_and(|seen| seen.stdout.len() >= bytes || seen.end.is_some())
        })
        .await
    }

    pub(crate) async fn finish(&mut self, id: &Bytes) -> Verdict<Seen> {
        self.until(|agent| agent.execs.get(id).is_some_and(|seen| seen.end.is_some()))
            .await?;
        Ok(self.seen(id))
    }

    pub(crate) async fn run(&mut self, start: ExecStart) -> Verdict<Seen> {
        let id = self.start(start).await?;
        self.finish(&id).await
    }

    /// The output of a script that exits with 0.
    pub(crate) async fn sh(&mut self, script: &str) -> Verdict<String> {
        self.run(sh(script)).await?.ok()
    }

    /// The output of a Python program that exits with 0.
    pub(crate) async fn python(&mut self, program: &str) -> Verdict<String> {
        self.run(python(program)).await?.ok()
    }

    pub(crate) async fn signal(&mut self, id: &Bytes, signal: i32) -> Verdict {
        let exec_id = id.clone();
        let signal = Call::Signal(Signal { exec_id, signal });
        self.ask(signal).await.map(drop)
    }

    /// Gives input, a chunk after the one before was taken.
    pub(crate) async fn stdin(
        &mut self,
        id: &Bytes,
        offset: u64,
        data: &[u8],
        eof: bool,
    ) -> Verdict {
        let mut at = offset;
        for chunk in data.chunks(frame::CHUNK_BYTES) {
            self.send_stdin(id, at, chunk, false).await?;
            at += chunk.len() as u64;
            self.until(|agent| {
                let seen = agent.execs.get(id);
                seen.is_some_and(|seen| seen.stdin_taken >= at || seen.end.is_some())
            })
            .await?;
        }
        if eof {
            self.send_stdin(id, at, &[], true).await?;
        }
        Ok(())
    }

    async fn send_stdin(&mut self, id: &Bytes, offset: u64, data: &[u8], eof: bool) -> Verdict {
        self.send(To::ExecStdin(ExecStdin {
            exec_id: id.clone(),
            offset,
            data: Bytes::copy_from_slice(data),
            eof,
        }))
        .await
    }

    /// Asks without waiting.
    pub(crate) async fn ask(&mut self, call: Call) -> Verdict<u64> {
        self.next_request += 1;
        let id = self.next_request;
        let call = Some(call);
        self.send(To::Request(Request { id, call })).await?;
        Ok(id)
    }

    pub(crate) fn has_answer(&self, id: u64) -> bool {
        self.replies.contains_key(&id)
    }

    pub(crate) async fn answer(&mut self, id: u64) -> Verdict<Reply> {
        self.until(|agent| agent.replies.contains_key(&id)).await?;
        Ok(self.replies[&id].clone())
    }

    pub(crate) async fn call(&mut self, call: Call) -> Verdict<Reply> {
        let id = self.ask(call).await?;
        self.answer(id).await
    }

    /// What a watch saw so far.
    pub(crate) fn watched(&self, id: u64) -> &[(u32, Bytes)] {
        self.watched.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Sends a body under credit, and gives the answer to it.
    pub(crate) async fn upload(&mut self, call: Call, body: &[u8]) -> Verdict<Reply> {
        let id = self.ask(call).await?;
        let mut sent = 0;
        for chunk in body.chunks(frame::CHUNK_BYTES) {
            sent += chunk.len() as u64;
            self.until(|agent| {
                let credit = agent.credit.get(&id).copied().unwrap_or(0);
                sent <= u64::from(CREDIT_BYTES) + credit || agent.replies.contains_key(&id)
            })
            .await?;
            let data = Bytes::copy_from_slice(chunk);
            let eof = false;
            self.send(To::Data(Data { id, data, eof })).await?;
        }
        let (data, eof) = (Bytes::new(), true);
        self.send(To::Data(Data { id, data, eof })).await?;
        self.answer(id).await
    }

    /// Connects to a port.
    pub(crate) async fn dial(&mut self, port: u32) -> Verdict<u64> {
        let id = self.ask(Call::Dial(Dial { port })).await?;
        self.dials.insert(id);
        match self.answer(id).await? {
            Reply::Done(_) => Ok(id),
            other => Err(Failure::new(format!("port {port}: {other:?}"))),
        }
    }

    /// Says all of it over a connection, and then that it is all; what comes back until the other side has said that.
    pub(crate) async fn converse(&mut self, id: u64, said: &[u8]) -> Verdict<Vec<u8>> {
        let mut sent = 0;
        let pieces = said.chunks(DIAL_WINDOW_BYTES as usize / 2);
        for (data, eof) in pieces.map(|piece| (piece, false)).chain([(&[][..], true)]) {
            sent += u64::from(dial_cost(data.len()));
            self.until(|agent| {
                let credit = agent.credit.get(&id).copied().unwrap_or(0);
                sent <= u64::from(DIAL_WINDOW_BYTES) + credit
            })
            .await?;
            let data = Bytes::copy_from_slice(data);
            self.send(To::Data(Data { id, data, eof })).await?;
        }
        self.until(|agent| agent.data.get(&id).is_some_and(|(_, eof)| *eof))
            .await?;
        Ok(self.data.remove(&id).unwrap_or_default().0)
    }

    /// All the bytes that a request is answered with.
    pub(crate) async fn download(&mut self, call: Call) -> Verdict<Vec<u8>> {
        let id = self.ask(call).await?;
        self.until(|agent| {
            agent.data.get(&id).is_some_and(|(_, eof)| *eof)
                || matches!(agent.replies.get(&id), Some(Reply::Failed(_)))
        })
        .await?;
        if let Some(Reply::Failed(failed)) = self.replies.get(&id) {
            return Err(Failure::new(format!("{failed:?}")));
        }
        Ok(self.data.remove(&id).unwrap_or_default().0)
    }

    /// Takes in whatever comes until `end` is there.
    pub(crate) async fn listen(&mut self, end: impl Future<Output = ()>) -> Verdict {
        tokio::pin!(end);
        loop {
            let body = tokio::select! {
                () = &mut end => return Ok(()),
                body = self.next() => body?,
            };
            self.take(body).await?;
        }
    }
}

fn advance(seen: &mut Seen, seq: u64) -> Verdict {
    ensure!(
        seq == seen.last + 1 && seen.end.is_none(),
        "event {seq} after event {} (ended: {:?})",
        seen.last,
        seen.end
    );
    seen.last = seq;
    Ok(())
}
