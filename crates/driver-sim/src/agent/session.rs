//! Sessions: shells that stay, one command after another in each.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{ExecStart, SessionOpen, SessionState};
use skerry_types::limits::MAX_SESSIONS;

use super::{Agent, Exec, Id};
use crate::shell::{self, Shell};

const KILL: i32 = 9;

enum Session {
    Idle(Shell),
    Busy(Arc<Exec>),
}

/// All sessions by id.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Id, Session>>);

impl Sessions {
    pub(super) fn open(&self, agent: &Agent, request: SessionOpen) {
        let mut open = self.0.lock();
        let shell = Shell::new(&request.env, &request.cwd);
        let error = if open.contains_key(&request.session_id) {
            ""
        } else if open.len() >= MAX_SESSIONS {
            "too many sessions are open"
        } else if !matches!(&request.shell[..], b"" | b"/bin/sh" | b"/bin/bash") {
            "there is no such shell"
        } else if !shell.has_place(&agent.tree) {
            "its directory is not there"
        } else {
            open.insert(request.session_id.clone(), Session::Idle(shell));
            ""
        };
        report(agent, request.session_id, error.is_empty(), error);
    }

    /// Runs a script in a session's shell.
    pub(super) fn start_exec(&self, agent: &Arc<Agent>, exec: Arc<Exec>, start: ExecStart) {
        let mut open = self.0.lock();
        let shell = match open.get(&start.session_id) {
            None => return exec.fail("there is no such session"),
            Some(Session::Busy(_)) => return exec.fail("the session is busy"),
            Some(Session::Idle(shell)) => shell.clone(),
        };
        let program = match shell::script(&start.argv) {
            Ok(program) => program,
            Err(reason) => return exec.fail(&reason),
        };
        open.insert(start.session_id.clone(), Session::Busy(Arc::clone(&exec)));
        let owner = Arc::clone(agent);
        agent.spawn(async move {
            let shell = exec.supervise(&owner, shell, &start, program).await;
            owner.sessions.finish(&owner, start.session_id, shell);
        });
    }

    fn finish(&self, agent: &Agent, id: Id, shell: Shell) {
        let mut open = self.0.lock();
        if !open.contains_key(&id) {
            return;
        }
        if shell.has_exited() {
            open.remove(&id);
            report(agent, id, false, "");
        } else {
            open.insert(id, Session::Idle(shell));
        }
    }

    /// Ends a session and what runs in it.
    pub(super) fn close(&self, agent: &Agent, id: &Id) {
        if let Some(Session::Busy(exec)) = self.0.lock().remove(id) {
            exec.signal(KILL);
        }
        report(agent, id.clone(), false, "");
    }

    pub(super) fn open_ids(&self) -> Vec<Id> {
        self.0.lock().keys().cloned().collect()
    }
}

fn report(agent: &Agent, session_id: Id, open: bool, error: &str) {
    agent.outbox.send(Body::SessionState(SessionState {
        session_id,
        open,
        error: error.to_owned(),
    }));
}
