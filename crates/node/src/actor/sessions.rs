//! Sessions: stateful shells.

use bytes::Bytes;
use skerry_proto::agent::{SessionClose, SessionOpen, SessionState, to_agent::Body as To};
use skerry_proto::node::{OpenSession, SessionRecord};
use skerry_types::limits::{KILL_GRACE_MS, MAX_SESSIONS};
use skerry_types::{Error, SessionId};

use super::{Actor, Reply};
use crate::agent::{bytes, env};
use crate::event::Event;

/// Sessions one sandbox may have had; the record of all is kept in memory while it lives.
const MAX_SESSIONS_EVER: usize = 10_000;

impl Actor {
    /// Answered when the agent says that it is open.
    pub(super) fn open_session(&mut self, request: OpenSession, reply: Reply<SessionRecord>) {
        if let Err(error) = self.check_session_room(&request) {
            drop(reply.send(Err(error)));
            return;
        }
        self.touch();
        self.link.send(To::SessionOpen(SessionOpen {
            session_id: Bytes::copy_from_slice(&request.id.bytes()),
            shell: bytes(request.shell.as_deref().unwrap_or_default()),
            env: env(&self.merged_env(request.env)),
            cwd: bytes(
                request
                    .cwd
                    .as_deref()
                    .unwrap_or(&self.meta.image.config.workdir),
            ),
            user: request.user.unwrap_or_else(|| self.meta.user.clone()),
        }));
        let opening = self.opening.entry(request.id).or_default();
        opening.shell = request.shell;
        opening.replies.push(reply);
    }

    fn check_session_room(&mut self, request: &OpenSession) -> Result<(), Error> {
        self.must_run()?;
        // Whoever asked for these has given up.
        self.opening.retain(|_, opening| opening.is_wanted());
        let history = self.shared.history.read();
        let open = history.sessions.iter().filter(|s| s.open).count();
        if open + self.opening.len() >= MAX_SESSIONS {
            return Err(Error::conflict(format!(
                "{MAX_SESSIONS} sessions are open in this sandbox already"
            ))
            .with_hint("end one of them first"));
        }
        if history.sessions.len() >= MAX_SESSIONS_EVER {
            return Err(Error::conflict(format!(
                "this sandbox has had {MAX_SESSIONS_EVER} sessions, the most one may have"
            )));
        }
        if history.session(request.id).is_some() {
            return Err(Error::conflict(format!("session {} exists", request.id)));
        }
        Ok(())
    }

    pub(super) fn on_session_state(&mut self, session: SessionId, state: &SessionState) {
        let opening = self.opening.remove(&session);
        if let Some(opening) = opening.filter(Opening::is_wanted) {
            let answer = if state.open {
                self.note_anyway(&Event::SessionCreated {
                    session_id: session,
                    shell: opening.shell,
                });
                self.session_record(session)
            } else {
                Err(Error::validation(format!(
                    "the session could not be opened: {}",
                    state.error.chars().take(1000).collect::<String>()
                )))
            };
            for reply in opening.replies {
                drop(reply.send(answer.clone()));
            }
        } else if !state.open {
            self.session_ended(session);
        } else if self.session_record(session).is_err() {
            // Open too late: nobody knows of it.
            self.end_session(session);
        }
    }

    fn end_session(&mut self, session: SessionId) {
        self.link.send(To::SessionClose(SessionClose {
            session_id: Bytes::copy_from_slice(&session.bytes()),
            kill_grace_ms: KILL_GRACE_MS,
        }));
    }

    fn session_ended(&mut self, session: SessionId) {
        let was_open = self
            .shared
            .history
            .read()
            .session(session)
            .is_some_and(|s| s.open);
        if was_open {
            self.note_anyway(&Event::SessionDestroyed {
                session_id: session,
            });
        }
    }

    fn session_record(&self, session: SessionId) -> Result<SessionRecord, Error> {
        let history = self.shared.history.read();
        let record = history.session(session).cloned();
        record.ok_or_else(|| Error::not_found(format!("session {session}")))
    }

    /// Ends at once for us; the agent does the rest.
    pub(super) fn close_session(&mut self, session: SessionId, reply: Reply<SessionRecord>) {
        let known = self.session_record(session);
        if known.as_ref().is_ok_and(|s| s.open) {
            self.touch();
            self.end_session(session);
            self.session_ended(session);
        }
        drop(reply.send(known.and_then(|_| self.session_record(session))));
    }

    /// Input for the command that runs in it.
    pub(super) fn session_input(&mut self, session: SessionId, data: Bytes, reply: Reply<()>) {
        let exec = {
            let history = self.shared.history.read();
            history
                .open_execs()
                .find(|e| e.session == Some(session))
                .map(|e| e.id)
        };
        match (self.session_record(session), exec) {
            (Err(error), _) => drop(reply.send(Err(error))),
            (Ok(_), Some(exec)) => self.stdin(exec, data, false, reply),
            (Ok(_), None) => drop(reply.send(Err(Error::conflict(format!(
                "session {session} is running nothing that could read input"
            ))))),
        }
    }

    /// After a link was down: the agent names the sessions it has.
    pub(super) fn reconcile_sessions(&mut self, open: &[Bytes]) {
        let gone: Vec<SessionId> = self
            .shared
            .history
            .read()
            .sessions
            .iter()
            .filter(|s| s.open && !open.iter().any(|o| o[..] == s.id.bytes()))
            .map(|s| s.id)
            .collect();
        for session in gone {
            self.session_ended(session);
        }
        // What was asked for on the old link may never have arrived.
        for (session, opening) in self.opening.drain() {
            for reply in opening.replies {
                drop(reply.send(Err(Error::conflict(format!(
                    "the link to the sandbox broke while session {session} was opening; try again"
                )))));
            }
        }
    }

    pub(super) fn close_all_sessions(&mut self) {
        self.reconcile_sessions(&[]);
    }
}

/// A session that the agent was asked for.
#[derive(Debug, Default)]
pub(super) struct Opening {
    shell: Option<String>,
    replies: Vec<Reply<SessionRecord>>,
}

impl Opening {
    fn is_wanted(&self) -> bool {
        self.replies.iter().any(|reply| !reply.is_closed())
    }
}
