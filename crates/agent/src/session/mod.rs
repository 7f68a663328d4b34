//! Sessions: shells that stay, one command after another in each.

mod script;
mod shell;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{ExecStart, SessionClose, SessionOpen, SessionState};
use skerry_types::limits::MAX_SESSIONS;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::exec::command::StartError;
use crate::exec::{Exec, Id, Limits, STUCK};
use crate::outbox::Outbox;
use crate::procs::{self, Family};
use crate::reap::Reaper;
use crate::session::shell::{Job, Shell};

/// Ended sessions that are remembered, so that opening one again is not answered with a shell that has lost its state.
const MAX_REMEMBERED: usize = 64;

/// Sessions that close at once.
const MAX_CLOSING: usize = 64;

/// A shell as the rest of the agent sees it.
#[derive(Debug)]
struct Session {
    /// Its process.
    shell: u32,
    jobs: mpsc::Sender<Job>,
    busy: Rc<Cell<bool>>,
    closing: Cell<bool>,
    /// All that belonged to a closing session is gone.
    cleared: Notify,
}

/// All sessions by id.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: RefCell<HashMap<Id, Rc<Session>>>,
    ended: RefCell<VecDeque<Id>>,
}

impl Sessions {
    /// Opens a session, unless it is known already.
    pub(crate) fn open(&self, agent: &Rc<Agent>, request: &SessionOpen) {
        let Ok(id) = Id::try_from(&request.session_id[..]) else {
            return;
        };
        let error = if self.open.borrow().contains_key(&id) {
            None
        } else if self.ended.borrow().contains(&id) {
            Some("this session has ended".to_owned())
        } else if !self.has_place() {
            Some(format!(
                "{MAX_SESSIONS} sessions are open, the most there may be"
            ))
        } else {
            let started = self.start(agent, id, request);
            started.err().map(|error| error.to_string())
        };
        report(
            &agent.outbox,
            id,
            error.is_none(),
            error.unwrap_or_default(),
        );
    }

    /// One that is closing is over for the node already, but what ran in it may take a while to go.
    fn has_place(&self) -> bool {
        let open = self.open.borrow();
        let closing = open.values().filter(|session| session.closing.get());
        let closing = closing.count();
        open.len() - closing < MAX_SESSIONS && closing < MAX_CLOSING
    }

    fn start(&self, agent: &Rc<Agent>, id: Id, request: &SessionOpen) -> Result<(), StartError> {
        let shell = Shell::start(agent, request)?;
        // One command waits at most: the session is busy until it has ended.
        let (jobs, next) = mpsc::channel(1);
        let session = Rc::new(Session {
            shell: shell.pid(),
            jobs,
            busy: Rc::default(),
            closing: Cell::new(false),
            cleared: Notify::new(),
        });
        self.open.borrow_mut().insert(id, session.clone());
        let agent = agent.clone();
        spawn_local(async move {
            shell.serve(next, &session.busy).await;
            if session.closing.get() {
                session.cleared.notified().await;
            }
            agent.sessions.end(&agent.outbox, id);
        });
        Ok(())
    }

    fn end(&self, outbox: &Outbox, id: Id) {
        self.open.borrow_mut().remove(&id);
        let mut ended = self.ended.borrow_mut();
        if ended.len() >= MAX_REMEMBERED {
            ended.pop_front();
        }
        ended.push_back(id);
        report(outbox, id, false, String::new());
    }

    /// Runs a script in a session's shell.
    pub(crate) fn start_exec(&self, exec: &Rc<Exec>, start: &ExecStart) -> Result<(), StartError> {
        let session = self.open.borrow().get(&start.session_id[..]).cloned();
        let session = session.ok_or(StartError::NoSession)?;
        if start.tty.is_some() {
            return Err(StartError::SessionTerminal);
        }
        let [script] = &start.argv[..] else {
            return Err(StartError::SessionArgv);
        };
        if script.contains(&0) {
            return Err(StartError::Nul);
        }
        if session.closing.get() || session.busy.replace(true) {
            return Err(StartError::SessionBusy);
        }
        let job = Job {
            exec: exec.clone(),
            script: script.clone(),
            limits: Limits::new(start),
        };
        session
            .jobs
            .try_send(job)
            .map_err(|_| StartError::NoSession)
    }

    /// Ends a session and everything in it.
    pub(crate) fn close(&self, agent: &Rc<Agent>, request: &SessionClose) {
        let Ok(id) = Id::try_from(&request.session_id[..]) else {
            return;
        };
        let Some(session) = self.open.borrow().get(&id).cloned() else {
            report(&agent.outbox, id, false, String::new());
            return;
        };
        if !session.closing.replace(true) {
            let grace = Duration::from_millis(request.kill_grace_ms);
            let reaper = agent.reaper.clone();
            spawn_local(async move { clear(&session, &reaper, grace).await });
        }
    }

    /// The sessions that are open.
    pub(crate) fn ids(&self) -> Vec<Bytes> {
        let open = self.open.borrow();
        open.keys().map(|id| Bytes::copy_from_slice(id)).collect()
    }
}

/// HUP to all, KILL to who is left.
async fn clear(session: &Session, reaper: &Reaper, grace: Duration) {
    let mut family = Family::of(session.shell);
    let members = family.look();
    procs::signal(&members, Signal::HUP);
    // Who is stopped hears it only now.
    procs::signal(&members, Signal::CONT);
    // Either way the rest is killed.
    let _: Result<(), _> = timeout(grace, family.clone().gone(reaper)).await;
    family.kill();
    let _: Result<(), _> = timeout(STUCK, family.gone(reaper)).await;
    session.cleared.notify_one();
}

fn report(outbox: &Outbox, id: Id, open: bool, error: String) {
    outbox.send(Body::SessionState(SessionState {
        session_id: Bytes::copy_from_slice(&id),
        open,
        error,
    }));
}
