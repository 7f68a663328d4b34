//! Execs: from the request to the one explicit end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use skerry_proto::agent::{self, Call, Ended, STDIN_WINDOW_BYTES, Signal, to_agent::Body as To};
use skerry_proto::node::{Command as ExecCommand, ExecRecord, Map, StartExec, TtySize};
use skerry_types::limits::{KILL_GRACE_MS, MAX_RUNNING_EXECS};
use skerry_types::{Error, ErrorCode, ExecEnd, ExecId, ExecStatus, SandboxState, Usage};

use super::{Actor, Reply, journal_error};
use crate::agent::{bytes, env, tty};
use crate::event::{Event, millis_between};
use crate::link::Link;

/// Execs one sandbox may have had; the record of all is kept in memory while it lives.
const MAX_EXECS: u64 = 100_000;
/// Input calls that may wait for one exec.
const MAX_STDIN_CALLS: usize = 64;
/// Bytes of input that may wait for all execs of one sandbox.
const MAX_STDIN_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of all commands that one sandbox may have had.
const MAX_COMMAND_BYTES: u64 = 64 * 1024 * 1024;

/// What is only known while an exec runs.
#[derive(Debug, Default)]
pub(super) struct LiveExec {
    /// Kept until the agent has it: said again after a broken link.
    start: Option<agent::ExecStart>,
    stdin: Stdin,
    /// KILL was sent through the API, so a death by KILL is no sign of missing memory.
    killed: bool,
}

/// Input on its way: kept until the process's side took it.
#[derive(Debug, Default)]
struct Stdin {
    /// Bytes given so far, and bytes taken.
    given: u64,
    taken: u64,
    /// Nothing comes after what was given.
    eof: bool,
    /// An earlier daemon gave the agent some; how much, the agent will tell.
    is_unknown: bool,
    calls: VecDeque<StdinCall>,
}

impl Stdin {
    /// Bytes that wait.
    fn bytes(&self) -> usize {
        self.calls.iter().map(|call| call.data.len()).sum()
    }

    /// Sends what the agent has room for.
    fn pump(&mut self, link: &mut Link, exec: ExecId) {
        if self.is_unknown {
            return;
        }
        let window = self.taken + STDIN_WINDOW_BYTES;
        for call in self.calls.iter_mut().filter(|c| !c.is_sent) {
            if call.end() > window {
                return;
            }
            call.is_sent = true;
            link.send(input(exec, call.offset, call.data.clone(), call.eof));
        }
        // The end alone is never taken, so there is nothing to wait for.
        let taken = self.taken;
        while let Some(call) = self.calls.pop_front_if(|c| c.end() <= taken) {
            drop(call.reply.send(Ok(())));
        }
    }

    /// Says again on a new link what the agent may not have.
    fn repeat(&mut self, link: &mut Link, exec: ExecId) {
        for call in &mut self.calls {
            call.is_sent = false;
        }
        self.pump(link, exec);
        if self.eof && self.calls.is_empty() {
            link.send(input(exec, self.given, Bytes::new(), true));
        }
    }

    /// The agent has this much from an earlier daemon.
    fn begin_at(&mut self, received: u64) {
        if std::mem::take(&mut self.is_unknown) {
            // The agent may say any number.
            self.given = self.given.saturating_add(received);
            for call in &mut self.calls {
                call.offset = call.offset.saturating_add(received);
            }
        }
    }
}

fn input(exec: ExecId, offset: u64, data: Bytes, eof: bool) -> To {
    To::ExecStdin(agent::ExecStdin {
        exec_id: Bytes::copy_from_slice(&exec.bytes()),
        offset,
        data,
        eof,
    })
}

#[derive(Debug)]
struct StdinCall {
    offset: u64,
    data: Bytes,
    eof: bool,
    is_sent: bool,
    reply: Reply<()>,
}

impl StdinCall {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
}

impl Actor {
    pub(super) fn start_exec(&mut self, request: StartExec) -> Result<ExecRecord, Error> {
        if let Some(known) = self.shared.history.read().exec(request.id) {
            return Ok(known.clone());
        }
        self.must_run()?;
        self.check_room(&request)?;
        self.budget.check_share(self.shared.journal.size())?;
        let number = self.shared.history.read().exec_count() + 1;
        self.note(&Event::ExecStarted {
            exec_id: request.id,
            number,
            cmd: request.command.clone(),
            cwd: request.cwd.clone(),
            user: request.user.clone(),
            env_names: request.env.keys().cloned().collect(),
            session_id: request.session,
            tty: request.tty.is_some(),
            timeout_ms: request.timeout.map(|t| t.as_millis() as u64),
            after_seq: 0,
            tag: request.tag.clone(),
        })
        .map_err(|e| journal_error(&e))?;
        self.touch();
        let id = request.id;
        let start = self.exec_start(request);
        self.link.send(To::ExecStart(start.clone()));
        self.live.insert(
            id,
            LiveExec {
                start: Some(start),
                ..LiveExec::default()
            },
        );
        self.record(id)
    }

    fn check_room(&self, request: &StartExec) -> Result<(), Error> {
        let history = self.shared.history.read();
        if self.live.len() >= MAX_RUNNING_EXECS {
            return Err(Error::conflict(format!(
                "{MAX_RUNNING_EXECS} execs are running in this sandbox already"
            )));
        }
        if history.exec_count() >= MAX_EXECS {
            return Err(Error::conflict(format!(
                "this sandbox has had {MAX_EXECS} execs, the most one may have"
            )));
        }
        if history.command_bytes() >= MAX_COMMAND_BYTES {
            return Err(Error::conflict(format!(
                "the commands of this sandbox have taken {MAX_COMMAND_BYTES} bytes, the most they may"
            )));
        }
        let Some(session) = request.session else {
            return Ok(());
        };
        match history.session(session) {
            None => Err(Error::not_found(format!("session {session}"))),
            Some(s) if !s.open => Err(Error::conflict(format!("session {session} has ended"))),
            Some(_) if history.open_execs().any(|e| e.session == Some(session)) => Err(
                Error::conflict(format!("session {session} is running a command already"))
                    .with_hint("wait for it, or open a second session"),
            ),
            Some(_) => Ok(()),
        }
    }

    fn exec_start(&self, request: StartExec) -> agent::ExecStart {
        let argv = match (&request.command, request.session) {
            (ExecCommand::Shell(script), Some(_)) => vec![bytes(script)],
            (ExecCommand::Shell(script), None) => {
                vec![bytes("/bin/sh"), bytes("-c"), bytes(script)]
            }
            (ExecCommand::Argv(argv), _) => argv.iter().map(|a| bytes(a)).collect(),
        };
        agent::ExecStart {
            exec_id: Bytes::copy_from_slice(&request.id.bytes()),
            argv,
            env: env(&self.merged_env(request.env)),
            cwd: bytes(
                request
                    .cwd
                    .as_deref()
                    .unwrap_or(&self.meta.image.config.workdir),
            ),
            user: request.user.unwrap_or_else(|| self.meta.user.clone()),
            tty: request.tty.map(tty),
            stdin: request.stdin,
            timeout_ms: request.timeout.map_or(0, |t| t.as_millis() as u64),
            kill_grace_ms: KILL_GRACE_MS,
            session_id: request
                .session
                .map_or_else(Bytes::new, |s| Bytes::copy_from_slice(&s.bytes())),
        }
    }

    /// The sandbox's environment below the request's.
    pub(super) fn merged_env(&self, over: Map) -> Map {
        let mut merged = self.meta.env.clone();
        merged.extend(over);
        merged
    }

    fn record(&self, exec: ExecId) -> Result<ExecRecord, Error> {
        let history = self.shared.history.read();
        let record = history.exec(exec).cloned();
        record.ok_or_else(|| Error::not_found(format!("exec {exec}")))
    }

    fn must_be_open(&self, exec: ExecId) -> Result<ExecRecord, Error> {
        let record = self.record(exec)?;
        match record.end {
            None => Ok(record),
            Some(_) => Err(Error::conflict(format!("exec {exec} has ended"))),
        }
    }

    pub(super) fn stdin(&mut self, exec: ExecId, data: Bytes, eof: bool, reply: Reply<()>) {
        self.touch();
        let open = self.must_be_open(exec);
        let waiting: usize = self.live.values().map(|live| live.stdin.bytes()).sum();
        let Some(live) = self.live.get_mut(&exec) else {
            let error = open
                .err()
                .unwrap_or_else(|| Error::not_found(format!("exec {exec}")));
            drop(reply.send(Err(error)));
            return;
        };
        if live.stdin.calls.len() >= MAX_STDIN_CALLS || waiting + data.len() > MAX_STDIN_BYTES {
            let error = Error::conflict("the command does not read its input")
                .with_hint("wait for earlier input to be taken");
            drop(reply.send(Err(error)));
            return;
        }
        let call = StdinCall {
            offset: live.stdin.given,
            data,
            eof,
            is_sent: false,
            reply,
        };
        live.stdin.given = call.end();
        live.stdin.eof |= eof;
        live.stdin.calls.push_back(call);
        live.stdin.pump(&mut self.link, exec);
    }

    pub(super) fn on_stdin_ack(&mut self, exec: ExecId, offset: u64, closed: bool) {
        let Some(live) = self.live.get_mut(&exec) else {
            return;
        };
        live.stdin.taken = offset.min(live.stdin.given);
        while let Some(call) = live
            .stdin
            .calls
            .pop_front_if(|c| closed || c.end() <= offset)
        {
            let taken = call.end() <= offset;
            let answer = if taken {
                Ok(())
            } else {
                Err(Error::conflict(format!("exec {exec} closed its input")))
            };
            drop(call.reply.send(answer));
        }
        live.stdin.pump(&mut self.link, exec);
    }

    /// What to ask the agent for. From here on the command may die of it.
    pub(super) fn signal(&mut self, exec: ExecId, signal: i32) -> Result<Call, Error> {
        self.must_be_open(exec)?;
        if !(1..=64).contains(&signal) {
            return Err(Error::validation(format!(
                "signal is {signal}; it must be 1 to 64"
            )));
        }
        self.touch();
        if let Some(live) = self.live.get_mut(&exec) {
            live.killed |= signal == 9;
        }
        Ok(Call::Signal(Signal {
            exec_id: Bytes::copy_from_slice(&exec.bytes()),
            signal,
        }))
    }

    pub(super) fn resize(&mut self, exec: ExecId, size: TtySize) -> Result<(), Error> {
        if !self.must_be_open(exec)?.tty {
            return Err(Error::conflict(format!("exec {exec} has no terminal")));
        }
        self.touch();
        self.link.send(To::ExecResize(agent::ExecResize {
            exec_id: Bytes::copy_from_slice(&exec.bytes()),
            size: tty(size),
        }));
        Ok(())
    }

    /// After a daemon restart: what the journal has open may still run. The agent will tell.
    pub(super) fn take_up_open_execs(&mut self) {
        let open: Vec<ExecId> = self
            .shared
            .history
            .read()
            .open_execs()
            .map(|e| e.id)
            .collect();
        for exec in open {
            let stdin = Stdin {
                is_unknown: true,
                ..Stdin::default()
            };
            self.live.insert(
                exec,
                LiveExec {
                    stdin,
                    ..LiveExec::default()
                },
            );
        }
    }

    /// On a new link: starts what was not confirmed, attaches the rest, and repeats input that was not taken.
    pub(super) fn attach_execs(&mut self) {
        let history = self.shared.history.read();
        for (exec, live) in &mut self.live {
            if let Some(start) = &live.start {
                self.link.send(To::ExecStart(start.clone()));
            } else {
                self.link.send(To::ExecAttach(agent::ExecAttach {
                    exec_id: Bytes::copy_from_slice(&exec.bytes()),
                    after_seq: history.exec_seq(*exec),
                }));
            }
            live.stdin.repeat(&mut self.link, *exec);
        }
    }

    pub(super) fn on_started(&mut self, exec: ExecId, pid: u32, stdin_offset: u64) {
        if let Some(live) = self.live.get_mut(&exec) {
            live.start = None;
            live.stdin.begin_at(stdin_offset);
            live.stdin.pump(&mut self.link, exec);
            self.shared.history.write().exec_running(exec, pid);
            self.shared.started.notify_waiters();
        }
    }

    /// The agent does not have it: it never got it from an earlier daemon, or lost it.
    pub(super) fn on_unknown(&mut self, exec: ExecId) {
        let end = match self.live.get(&exec) {
            None => return,
            Some(live) if live.start.is_some() => return,
            Some(_) if self.never_began(exec) => ExecEnd::FailedToStart {
                reason: "the node restarted before the command was started".to_owned(),
            },
            Some(_) => ExecEnd::NodeLost,
        };
        self.end_exec(exec, end);
    }

    /// Nothing was ever heard of it.
    fn never_began(&self, exec: ExecId) -> bool {
        let history = self.shared.history.read();
        let is_queued = |record: &ExecRecord| record.status == ExecStatus::Queued;
        history.exec_seq(exec) == 0 && history.exec(exec).is_some_and(is_queued)
    }

    /// Ends an exec by our own knowledge.
    pub(super) fn end_exec(&mut self, exec: ExecId, end: ExecEnd) {
        let (seq, started) = {
            let history = self.shared.history.read();
            let started = history.exec(exec).map(|e| e.created_at);
            (history.exec_seq(exec) + 1, started)
        };
        let now = jiff::Timestamp::now();
        let duration = started.map_or(0, |s| millis_between(s, now));
        self.note_anyway(&Event::ended(exec, seq, end, Usage::default(), duration));
        self.forget_exec(exec);
    }

    /// Ends everything that is open.
    pub(super) fn end_all_execs(&mut self, end: &ExecEnd) {
        let open: Vec<ExecId> = self
            .shared
            .history
            .read()
            .open_execs()
            .map(|e| e.id)
            .collect();
        for exec in open {
            self.end_exec(exec, end.clone());
        }
    }

    pub(super) fn forget_exec(&mut self, exec: ExecId) {
        let Some(live) = self.live.remove(&exec) else {
            return;
        };
        for call in live.stdin.calls {
            drop(call.reply.send(Err(Error::new(
                ErrorCode::Conflict,
                format!("exec {exec} ended before it took this input"),
            ))));
        }
    }

    /// What the agent's word for an end means, with what only the host knows.
    pub(super) async fn judge(&mut self, exec: ExecId, ended: Ended) -> ExecEnd {
        const KILL: i32 = 9;
        let is_kill = matches!(ended, Ended::Signal(KILL) | Ended::Code(137));
        let was_killed = self.live.get(&exec).is_some_and(|l| l.killed);
        if is_kill && !was_killed && self.take_oom_kill().await {
            return ExecEnd::OomKilled;
        }
        match ended {
            Ended::Signal(_) if self.state() == SandboxState::Stopping => ExecEnd::SandboxStopped,
            Ended::Signal(signal) => ExecEnd::Signaled { signal },
            Ended::Code(code) => ExecEnd::Exited { code },
            Ended::TimedOut(_) => ExecEnd::TimedOut,
            Ended::FailedToStart(reason) => ExecEnd::FailedToStart {
                reason: reason.chars().take(1000).collect(),
            },
        }
    }

    /// Whether the kernel killed something for lack of memory that nobody was blamed for yet.
    pub(super) async fn take_oom_kill(&mut self) -> bool {
        let Ok(kills) = self.driver.oom_kills(self.place()).await else {
            return false;
        };
        let fresh = kills > self.oom_seen;
        self.oom_seen = (self.oom_seen + 1).min(kills);
        fresh
    }

    /// Before the first of several execs runs, earlier kills are nobody's any more. Counted while the command is on its way.
    pub(super) fn look_at_oom_kills(&mut self) {
        if self.live.len() == 1 {
            let (driver, place) = (Arc::clone(&self.driver), self.place());
            let kills = async move { driver.oom_kills(place).await.ok() };
            self.oom_kills = kills.boxed();
        }
    }

    pub(super) fn note_oom_kills(&mut self, kills: Option<u64>) {
        self.oom_kills = futures::future::pending().boxed();
        self.oom_seen = kills.unwrap_or(self.oom_seen);
    }
}
