//! What an agent calls execs and sessions, where the sandbox's record has another id for them. After a rollback with memory they go on in a record
//! in which their old ids have ended, so they get new ones there; the agent was copied with the old.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skerry_proto::agent::{Call, Request, from_agent::Body as From, to_agent::Body as To};
use skerry_types::{ExecId, SessionId};
use uuid::Uuid;

use crate::event::Event;

/// See the module. Empty but for sandboxes that were rolled back, and copies of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names(Vec<Name>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Name {
    agent: Uuid,
    record: Uuid,
}

impl Names {
    /// Puts the agent's ids into a message to it.
    pub(crate) fn write(&self, message: &mut To) {
        let write = |id: &mut Bytes| self.replace(id, |name| (name.record, name.agent));
        match message {
            To::ExecStart(start) => {
                write(&mut start.exec_id);
                write(&mut start.session_id);
            }
            To::ExecAttach(attach) => write(&mut attach.exec_id),
            To::ExecAck(ack) => write(&mut ack.exec_id),
            To::ExecStdin(stdin) => write(&mut stdin.exec_id),
            To::Request(Request {
                call: Some(Call::Signal(signal)),
                ..
            }) => write(&mut signal.exec_id),
            To::ExecResize(resize) => write(&mut resize.exec_id),
            To::SessionOpen(open) => write(&mut open.session_id),
            To::SessionClose(close) => write(&mut close.session_id),
            _ => {}
        }
    }

    /// Puts the record's ids into a message of the agent.
    pub(crate) fn read(&self, message: &mut From) {
        let read = |id: &mut Bytes| self.replace(id, |name| (name.agent, name.record));
        match message {
            From::Hello(hello) => hello.sessions.iter_mut().for_each(read),
            From::ExecStarted(started) => read(&mut started.exec_id),
            From::ExecOutput(output) => read(&mut output.exec_id),
            From::ExecEnded(ended) => read(&mut ended.exec_id),
            From::ExecUnknown(unknown) => read(&mut unknown.exec_id),
            From::ExecStdinAck(ack) => read(&mut ack.exec_id),
            From::SessionState(state) => read(&mut state.session_id),
            _ => {}
        }
    }

    fn replace(&self, id: &mut Bytes, way: impl Fn(&Name) -> (Uuid, Uuid)) {
        let mut ways = self.0.iter().map(way);
        if let Some((_, to)) = ways.find(|(from, _)| from.as_bytes()[..] == id[..]) {
            *id = Bytes::copy_from_slice(to.as_bytes());
        }
    }

    /// New ids for what is open by these names, and the same events with them.
    pub(crate) fn renewed(&self, open: &[Event]) -> (Self, Vec<Event>) {
        let mut names = Vec::new();
        let mut rename = |old: Uuid, new: Uuid| {
            let known = self.0.iter().find(|name| name.record == old);
            let agent = known.map_or(old, |name| name.agent);
            names.push(Name { agent, record: new });
        };
        let mut sessions = Vec::new();
        let mut events = open.to_vec();
        for event in &mut events {
            match event {
                Event::SessionCreated { session_id, .. } => {
                    let new = SessionId::new();
                    rename(session_id.uuid(), new.uuid());
                    sessions.push((*session_id, new));
                    *session_id = new;
                }
                Event::ExecStarted {
                    exec_id,
                    session_id,
                    ..
                } => {
                    let new = ExecId::new();
                    rename(exec_id.uuid(), new.uuid());
                    *exec_id = new;
                    let found = sessions.iter().find(|(old, _)| Some(*old) == *session_id);
                    *session_id = found.map(|(_, new)| *new);
                }
                _ => {}
            }
        }
        (Self(names), events)
    }
}
