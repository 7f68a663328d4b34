//! What an actor can be asked, and who does it.

use std::ops::ControlFlow;
use std::sync::Weak;

use bytes::Bytes;
use jiff::Timestamp;
use skerry_driver::Extent;
use skerry_proto::agent::{Call, Dial};
use skerry_proto::node::{
    ExecRecord, OpenSession, SandboxReport, SessionRecord, StartExec, TtySize,
};
use skerry_types::{
    Egress, Error, ErrorCode, ExecId, FailureReason, SandboxState, SessionId, SnapshotId,
};
use tokio::sync::oneshot;

use super::{Actor, DialSink, RequestSink, Taken};
use crate::event::Event;
use crate::node::Node;
use crate::publish::Doors;
use crate::snapshots::InUse;

/// Commands of one sandbox that wait for its agent.
const MAX_WAITING: usize = 128;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What an actor can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    StartExec(Box<StartExec>, Reply<ExecRecord>),
    Stdin {
        exec: ExecId,
        data: Bytes,
        eof: bool,
        reply: Reply<()>,
    },
    Signal(ExecId, i32, Reply<Call>),
    Resize(ExecId, TtySize, Reply<()>),
    OpenSession(OpenSession, Reply<SessionRecord>),
    CloseSession(SessionId, Reply<SessionRecord>),
    SessionInput(SessionId, Bytes, Reply<()>),
    /// Ask the agent; answers and data go to the sink.
    Request(Call, RequestSink, Reply<u64>),
    /// Connect to a program inside; what it says goes to the sink.
    Dial(Dial, DialSink, Reply<u64>),
    /// Forget a request.
    Cancel(u64),
    /// Something that has happened through the API.
    Note(Event, Reply<()>),
    /// Something that happened inside as often as programs there like: on record while there is room for it.
    Mention(Event),
    Snapshot(SnapshotId, Extent, Reply<Taken>),
    RollBack(InUse, Reply<SandboxReport>),
    /// Unless it was used after this.
    Pause(Option<Timestamp>, Reply<SandboxReport>),
    Resume(Reply<SandboxReport>),
    SetAutoResume(bool, Reply<()>),
    SetEgress(Egress, Reply<()>),
    Stop(Option<FailureReason>, Reply<SandboxReport>),
    /// At these ports of the machine, which lead through the node.
    Start(Doors, Weak<Node>, Reply<SandboxReport>),
    Delete(Reply<()>),
}

impl Command {
    /// Work in the sandbox: what a paused one that wakes up by itself wakes up for.
    const fn is_use(&self) -> bool {
        matches!(
            self,
            Self::StartExec(..)
                | Self::Stdin { .. }
                | Self::Signal(..)
                | Self::Resize(..)
                | Self::OpenSession(..)
                | Self::CloseSession(..)
                | Self::SessionInput(..)
                | Self::Request(..)
                | Self::Dial(..)
        )
    }

    /// Is said once, and to nobody while there is no link. What must arrive whatever breaks has its own way.
    const fn needs_link(&self) -> bool {
        matches!(
            self,
            Self::OpenSession(..) | Self::Request(..) | Self::Dial(..)
        )
    }

    /// Answers work that cannot be done.
    fn refuse(self, error: Error) {
        match self {
            Self::StartExec(_, reply) => drop(reply.send(Err(error))),
            Self::OpenSession(_, reply) | Self::CloseSession(_, reply) => {
                drop(reply.send(Err(error)));
            }
            Self::Signal(_, _, reply) => drop(reply.send(Err(error))),
            Self::Stdin { reply, .. }
            | Self::Resize(_, _, reply)
            | Self::SessionInput(_, _, reply) => drop(reply.send(Err(error))),
            Self::Request(_, _, reply) | Self::Dial(_, _, reply) => {
                drop(reply.send(Err(error)));
            }
            _ => {}
        }
    }
}

impl Actor {
    /// Keeps it until the agent is there, and reads.
    fn keep_waiting(&mut self, command: Command) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(command);
        } else {
            let text =
                "too much waits for the sandbox's agent, which cannot be reached or does not read";
            command.refuse(Error::new(ErrorCode::ServiceUnavailable, text).retry_after(1));
        }
    }

    /// What waited for the agent, once it is there, or never will be.
    pub(super) fn next_waiting(&mut self) -> Option<Command> {
        let may_go = self.link.is_greeted() || self.state() != SandboxState::Running;
        (may_go && self.link.has_room()).then(|| self.waiting.pop_front())?
    }

    pub(super) async fn command(&mut self, command: Command) -> ControlFlow<()> {
        if self.sleeps()
            && command.is_use()
            && let Err(error) = self.resume().await
        {
            command.refuse(error);
            return ControlFlow::Continue(());
        }
        let has_nobody = !self.link.is_greeted() && self.state() == SandboxState::Running;
        if command.needs_link() && has_nobody || command.is_use() && !self.link.has_room() {
            self.keep_waiting(command);
            return ControlFlow::Continue(());
        }
        match command {
            Command::StartExec(request, reply) => {
                let answer = self.start_exec(*request);
                drop(reply.send(answer));
                self.look_at_oom_kills();
            }
            Command::Stdin {
                exec,
                data,
                eof,
                reply,
            } => self.stdin(exec, data, eof, reply),
            Command::Signal(exec, signal, reply) => drop(reply.send(self.signal(exec, signal))),
            Command::Resize(exec, size, reply) => drop(reply.send(self.resize(exec, size))),
            Command::OpenSession(request, reply) => self.open_session(request, reply),
            Command::CloseSession(session, reply) => self.close_session(session, reply),
            Command::SessionInput(session, data, reply) => {
                self.session_input(session, data, reply);
            }
            Command::Request(call, sink, reply) => drop(reply.send(self.request(call, sink))),
            Command::Dial(dial, sink, reply) => drop(reply.send(self.dial(dial, sink))),
            Command::Cancel(request) => self.cancel(request),
            Command::Note(event, reply) => {
                self.note_anyway(&event);
                drop(reply.send(Ok(())));
            }
            Command::Mention(event) => self.mention(&event),
            Command::Snapshot(id, extent, reply) => {
                drop(reply.send(self.take_snapshot(id, extent).await));
            }
            Command::RollBack(to, reply) => drop(reply.send(self.roll_back(&to).await)),
            Command::Pause(unless_used_since, reply) => {
                drop(reply.send(self.pause(unless_used_since).await));
            }
            Command::Resume(reply) => drop(reply.send(self.resume().await)),
            Command::SetAutoResume(auto_resume, reply) => {
                drop(reply.send(self.set_auto_resume(auto_resume)));
            }
            Command::SetEgress(egress, reply) => drop(reply.send(self.set_egress(egress).await)),
            Command::Stop(reason, reply) => drop(reply.send(self.stop(reason).await)),
            Command::Start(doors, node, reply) => {
                drop(reply.send(self.start_again(doors, &node).await));
            }
            Command::Delete(reply) => {
                let deleted = self.delete().await;
                let is_gone = deleted.is_ok();
                drop(reply.send(deleted));
                if is_gone {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }
}
