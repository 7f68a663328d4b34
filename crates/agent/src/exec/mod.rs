//! Execs: commands with an id, numbered output and exactly one end.

mod buffer;
pub(crate) mod command;
mod log;
mod run;
pub(crate) mod spawn;
pub(crate) mod stdin;
pub(crate) mod streams;
mod target;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{
    Ended, ExecAck, ExecAttach, ExecResize, ExecStart, ExecStarted, ExecStdin, ExecStdinAck,
    ExecUnknown, Signal,
};
use skerry_types::limits::MAX_RUNNING_EXECS;
use tokio::sync::Notify;

use crate::agent::Agent;
use crate::exec::command::StartError;
use crate::exec::log::Log;
use crate::exec::stdin::Stdin;
use crate::files::error::FileError;
use crate::files::{Work, done};
use crate::outbox::Outbox;
use crate::pty::Terminal;

pub(crate) use buffer::free as free_buffers;
pub(crate) use log::Usage;
pub(crate) use run::{Limits, STUCK, Watchdog, drain, ended, feeding, supervise, until_gone};
pub(crate) use stdin::write_all;
pub(crate) use target::Target;

/// Execs that ended and wait for the node to have their end, beside those that run.
const MAX_KEPT_EXECS: usize = 2 * MAX_RUNNING_EXECS;

/// The 16 bytes of an exec's or a session's id.
pub(crate) type Id = [u8; 16];

/// One command, from its start until the node has its end.
#[derive(Debug)]
pub(crate) struct Exec {
    id: Bytes,
    log: RefCell<Log>,
    /// The node has made room in the log.
    acknowledged: Notify,
    /// The node wants its events on the current link.
    attached: Cell<bool>,
    pub(crate) stdin: Stdin,
    pid: Cell<u32>,
    target: Cell<Option<Target>>,
    terminal: RefCell<Option<Rc<Terminal>>>,
    outbox: Rc<Outbox>,
}

impl Exec {
    fn new(start: &ExecStart, outbox: Rc<Outbox>) -> Self {
        Self {
            id: start.exec_id.clone(),
            log: RefCell::new(Log::new(start.exec_id.clone())),
            acknowledged: Notify::new(),
            attached: Cell::new(true),
            stdin: if start.stdin || start.tty.is_some() {
                Stdin::default()
            } else {
                Stdin::closed()
            },
            pid: Cell::new(0),
            target: Cell::new(None),
            terminal: RefCell::new(None),
            outbox,
        }
    }

    /// It runs now.
    pub(crate) fn started(&self, pid: u32, target: Target) {
        self.pid.set(pid);
        self.target.set(Some(target));
        self.report_started();
    }

    fn report_started(&self) {
        self.send(Body::ExecStarted(ExecStarted {
            exec_id: self.id.clone(),
            pid: self.pid.get(),
            stdin_offset: self.stdin.received(),
        }));
    }

    /// Says how far stdin is.
    pub(crate) fn report_stdin(&self) {
        self.send(Body::ExecStdinAck(ExecStdinAck {
            exec_id: self.id.clone(),
            offset: self.stdin.taken(),
            closed: self.stdin.is_closed(),
        }));
    }

    /// Adds a chunk of output.
    pub(crate) fn output(&self, (stream, data): (u32, Bytes)) {
        let event = self.log.borrow_mut().output(stream, data);
        self.send(event);
    }

    /// Adds the end.
    pub(crate) fn end(&self, ended: Ended, usage: Usage) {
        self.target.set(None);
        self.terminal.replace(None);
        self.stdin.close();
        let event = self.log.borrow_mut().end(ended, usage);
        self.send(event);
    }

    /// It never ran.
    pub(crate) fn fail(&self, error: &StartError) {
        self.report_started();
        self.end(Ended::FailedToStart(error.to_string()), Usage::default());
    }

    fn send(&self, event: Body) {
        if self.attached.get() {
            self.outbox.send(event);
        }
    }

    /// Until at least one byte of output may be read, and how many.
    pub(crate) async fn room(&self) -> usize {
        loop {
            let room = self.log.borrow().room();
            if room > 0 {
                return room;
            }
            self.acknowledged.notified().await;
        }
    }

    fn ended(&self) -> bool {
        self.log.borrow().ended()
    }

    fn attach(&self, after: u64) {
        self.attached.set(true);
        self.report_started();
        if self.stdin.taken() > 0 || self.stdin.is_closed() {
            self.report_stdin();
        }
        for event in self.log.borrow().after(after) {
            self.outbox.send(event);
        }
    }
}

/// All execs by id.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    known: RefCell<HashMap<Id, Rc<Exec>>>,
}

impl Execs {
    /// Starts a command, unless it is known already.
    pub(crate) fn start(&self, agent: &Rc<Agent>, start: &ExecStart) {
        let Ok(id) = Id::try_from(&start.exec_id[..]) else {
            return;
        };
        if let Some(exec) = self.get(&start.exec_id) {
            exec.attach(0);
            return;
        }
        let exec = Rc::new(Exec::new(start, agent.outbox.clone()));
        if let Err(error) = self.has_place() {
            // Not kept: an exec that is unknown later never ran, which is the truth.
            exec.fail(&error);
            return;
        }
        self.known.borrow_mut().insert(id, exec.clone());
        let started = if start.session_id.is_empty() {
            run::start(agent, &exec, start)
        } else {
            agent.sessions.start_exec(&exec, start)
        };
        if let Err(error) = started {
            exec.fail(&error);
        }
    }

    fn has_place(&self) -> Result<(), StartError> {
        let known = self.known.borrow();
        let running = known.values().filter(|exec| !exec.ended()).count();
        if running >= MAX_RUNNING_EXECS || known.len() >= MAX_KEPT_EXECS {
            return Err(StartError::TooMany(MAX_RUNNING_EXECS));
        }
        Ok(())
    }

    fn get(&self, id: &[u8]) -> Option<Rc<Exec>> {
        self.known.borrow().get(id).cloned()
    }

    /// Repeats what the node does not have.
    pub(crate) fn attach(&self, outbox: &Outbox, attach: ExecAttach) {
        match self.get(&attach.exec_id) {
            Some(exec) => {
                exec.attach(attach.after_seq);
                // An acknowledgement may have been lost with its link, and a full window would wait for it for ever.
                self.acknowledge(&ExecAck {
                    exec_id: attach.exec_id,
                    seq: attach.after_seq,
                });
            }
            None => outbox.send(Body::ExecUnknown(ExecUnknown {
                exec_id: attach.exec_id,
            })),
        }
    }

    /// Forgets what the node has.
    pub(crate) fn acknowledge(&self, ack: &ExecAck) {
        let Some(exec) = self.get(&ack.exec_id) else {
            return;
        };
        if exec.log.borrow_mut().acknowledge(ack.seq) {
            self.known.borrow_mut().remove(&ack.exec_id[..]);
        }
        exec.acknowledged.notify_one();
    }

    /// Takes bytes for a process.
    pub(crate) fn stdin(&self, input: ExecStdin) {
        if let Some(exec) = self.get(&input.exec_id) {
            exec.stdin.push(input.offset, input.data, input.eof);
            if exec.stdin.is_closed() {
                exec.report_stdin();
            }
        }
    }

    /// Signals what still runs.
    pub(crate) fn signal(&self, request: &Signal) -> Work {
        let exec = self.get(&request.exec_id);
        let target = exec.and_then(|exec| exec.target.get());
        target.ok_or(FileError::NoProcess)?.signal(request.signal);
        Ok(done(0))
    }

    /// Gives a terminal another size.
    pub(crate) fn resize(&self, request: &ExecResize) {
        if let Some(exec) = self.get(&request.exec_id)
            && let Some(terminal) = &*exec.terminal.borrow()
        {
            terminal.resize(request.size);
        }
    }

    /// A new link hears only of execs that it asks for.
    pub(crate) fn detach_all(&self) {
        for exec in self.known.borrow().values() {
            exec.attached.set(false);
        }
    }

    /// Is anything still running?
    pub(crate) fn all_ended(&self) -> bool {
        self.known.borrow().values().all(|exec| exec.ended())
    }
}
