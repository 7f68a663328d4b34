//! Execs: programs with an id, numbered output and exactly one end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{
    Ended, ExecAck, ExecAttach, ExecResize, ExecStart, ExecStarted, ExecStdin, ExecStdinAck,
    ExecUnknown, Process, Signal, TtySize,
};
use skerry_proto::frame::CHUNK_BYTES;
use skerry_types::limits::MAX_RUNNING_EXECS;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::log::Log;
use super::stdin::Stdin;
use super::{Agent, Id};
use crate::shell::{self, Shell};
use crate::tree::FileError;

const TERM: i32 = 15;
/// Signals that end no program: 0, CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: [i32; 9] = [0, 17, 18, 19, 20, 21, 22, 23, 28];

/// One program, from its start until the node has its end.
pub(crate) struct Exec {
    id: Id,
    argv: Vec<Bytes>,
    pid: AtomicU32,
    log: Mutex<Log>,
    acknowledged: Notify,
    attached: AtomicBool,
    stdin: Stdin,
    signals: Mutex<Vec<i32>>,
    signaled: Notify,
    ignores_term: AtomicBool,
    /// The size of its terminal: one stream, with a terminal's line ends.
    tty: Mutex<Option<TtySize>>,
    agent: std::sync::Weak<Agent>,
}

impl Exec {
    fn new(agent: &Arc<Agent>, start: &ExecStart) -> Arc<Self> {
        Arc::new(Self {
            id: start.exec_id.clone(),
            argv: start.argv.clone(),
            pid: AtomicU32::new(0),
            log: Mutex::new(Log::new(start.exec_id.clone())),
            acknowledged: Notify::new(),
            attached: AtomicBool::new(true),
            stdin: Stdin::new(start.stdin || start.tty.is_some()),
            signals: Mutex::default(),
            signaled: Notify::new(),
            ignores_term: AtomicBool::new(false),
            tty: Mutex::new(start.tty),
            agent: Arc::downgrade(agent),
        })
    }

    fn send(&self, body: Body) {
        if self.attached.load(Ordering::Relaxed)
            && let Some(agent) = self.agent.upgrade()
        {
            agent.outbox.send(body);
        }
    }

    fn report_started(&self) {
        self.send(Body::ExecStarted(ExecStarted {
            exec_id: self.id.clone(),
            pid: self.pid.load(Ordering::Relaxed),
            stdin_offset: self.stdin.received(),
        }));
    }

    fn report_stdin(&self) {
        let (offset, closed) = self.stdin.progress();
        self.send(Body::ExecStdinAck(ExecStdinAck {
            exec_id: self.id.clone(),
            offset,
            closed,
        }));
    }

    /// Writes all of it, as fast as the node acknowledges.
    pub(crate) async fn output(&self, stream: u32, data: &[u8]) {
        let lines;
        let (stream, mut rest) = if self.terminal().is_some() {
            lines = shell::terminal_lines(data);
            (skerry_proto::agent::STDOUT, &lines[..])
        } else {
            (stream, data)
        };
        while !rest.is_empty() {
            let room = self.log.lock().room().min(CHUNK_BYTES);
            if room == 0 {
                self.acknowledged.notified().await;
                continue;
            }
            let (chunk, later) = rest.split_at(room.min(rest.len()));
            self.record(|log| log.output(stream, chunk));
            rest = later;
        }
    }

    /// The size of its terminal, if it has one.
    pub(crate) fn terminal(&self) -> Option<TtySize> {
        *self.tty.lock()
    }

    fn resize(&self, size: TtySize) {
        if let Some(has) = &mut *self.tty.lock() {
            *has = size;
        }
    }

    /// The next bytes of its input; `None` at their end.
    pub(crate) async fn input(&self) -> Option<Bytes> {
        let chunk = self.stdin.read().await;
        if chunk.is_some() {
            self.report_stdin();
        }
        chunk
    }

    pub(crate) fn ignore_term(&self) {
        self.ignores_term.store(true, Ordering::Relaxed);
    }

    fn end(&self, ended: Ended, duration: Duration) {
        self.stdin.close();
        self.record(|log| log.end(ended, duration.as_millis() as u64));
    }

    /// Keeps and sends an event, with nobody in between: a link gets them in order, and each once.
    fn record(&self, event: impl FnOnce(&mut Log) -> Body) {
        let mut log = self.log.lock();
        let event = event(&mut log);
        self.send(event);
    }

    /// It never ran.
    pub(super) fn fail(&self, reason: &str) {
        self.report_started();
        self.end(Ended::FailedToStart(reason.to_owned()), Duration::ZERO);
    }

    fn ended(&self) -> bool {
        self.log.lock().ended()
    }

    fn attach(&self, after: u64) {
        let log = self.log.lock();
        self.attached.store(true, Ordering::Relaxed);
        self.report_started();
        let (taken, closed) = self.stdin.progress();
        if taken > 0 || closed {
            self.report_stdin();
        }
        for event in log.after(after) {
            self.send(event);
        }
    }

    pub(super) fn signal(&self, signal: i32) {
        self.signals.lock().push(signal);
        self.signaled.notify_one();
    }

    /// The signal that ends it.
    async fn fatal_signal(&self) -> i32 {
        loop {
            for signal in std::mem::take(&mut *self.signals.lock()) {
                if self.dies_of(signal) {
                    return signal;
                }
            }
            self.signaled.notified().await;
        }
    }

    fn dies_of(&self, signal: i32) -> bool {
        let ignored = signal == TERM && self.ignores_term.load(Ordering::Relaxed);
        !ignored && !HARMLESS.contains(&signal)
    }

    /// Runs a program of a shell to its end, and gives the shell back as it was left.
    pub(super) async fn supervise(
        self: &Arc<Self>,
        agent: &Arc<Agent>,
        mut shell: Shell,
        start: &ExecStart,
        program: shell::Program,
    ) -> Shell {
        self.pid.store(agent.execs.next_pid(), Ordering::Relaxed);
        self.report_started();
        let began = Instant::now();
        let before = shell.clone();
        let io = shell::Io {
            agent: Arc::clone(agent),
            exec: Arc::clone(self),
        };
        let (ended, shell) = tokio::select! {
            biased;
            signal = self.fatal_signal() => (Ended::Signal(signal), before),
            () = self.overdue(start) => (Ended::TimedOut(true), before),
            code = shell.run(&io, program) => (Ended::Code(code), shell),
        };
        self.end(ended, began.elapsed());
        agent.execs.ended.notify_waiters();
        shell
    }

    /// TERM when its time is over, KILL after the grace.
    async fn overdue(&self, start: &ExecStart) {
        if start.timeout_ms == 0 {
            return std::future::pending().await;
        }
        sleep(Duration::from_millis(start.timeout_ms)).await;
        if !self.dies_of(TERM) {
            sleep(Duration::from_millis(start.kill_grace_ms)).await;
        }
    }
}

/// All execs by id.
#[derive(Default)]
pub(super) struct Execs {
    known: Mutex<HashMap<Id, Arc<Exec>>>,
    pids: AtomicU32,
    ended: Notify,
}

impl Execs {
    /// Starts a program, unless it is known already.
    pub(super) fn start(&self, agent: &Arc<Agent>, start: ExecStart) {
        if let Some(exec) = self.get(&start.exec_id) {
            exec.attach(0);
            return;
        }
        let exec = Exec::new(agent, &start);
        if self.running().len() >= MAX_RUNNING_EXECS {
            exec.fail("too many execs are running");
            return;
        }
        self.known
            .lock()
            .insert(start.exec_id.clone(), Arc::clone(&exec));
        if !start.session_id.is_empty() {
            agent.sessions.start_exec(agent, exec, start);
            return;
        }
        let shell = Shell::new(&start.env, &start.cwd);
        let program = shell::program(&start.argv);
        match (program, shell.has_place(&agent.tree)) {
            (Ok(program), true) => {
                let owner = Arc::clone(agent);
                agent.spawn(async move {
                    exec.supervise(&owner, shell, &start, program).await;
                });
            }
            (Ok(_), false) => exec.fail("its directory is not there"),
            (Err(reason), _) => exec.fail(&reason),
        }
    }

    fn next_pid(&self) -> u32 {
        2 + self.pids.fetch_add(1, Ordering::Relaxed)
    }

    fn get(&self, id: &Id) -> Option<Arc<Exec>> {
        self.known.lock().get(id).cloned()
    }

    fn all(&self) -> Vec<Arc<Exec>> {
        self.known.lock().values().cloned().collect()
    }

    /// What has not ended.
    pub(super) fn running(&self) -> Vec<Arc<Exec>> {
        let mut all = self.all();
        all.retain(|exec| !exec.ended());
        all
    }

    /// What runs, as a list of processes below the agent.
    pub(super) fn processes(&self) -> Vec<Process> {
        let running = self.running();
        let processes = running.iter().map(|exec| Process {
            pid: exec.pid.load(Ordering::Relaxed),
            ppid: 1,
            argv: exec.argv.clone(),
        });
        processes.collect()
    }

    pub(super) fn attach(&self, agent: &Agent, attach: ExecAttach) {
        match self.get(&attach.exec_id) {
            Some(exec) => {
                exec.attach(attach.after_seq);
                self.acknowledge(&ExecAck {
                    exec_id: attach.exec_id,
                    seq: attach.after_seq,
                });
            }
            None => agent.outbox.send(Body::ExecUnknown(ExecUnknown {
                exec_id: attach.exec_id,
            })),
        }
    }

    pub(super) fn acknowledge(&self, ack: &ExecAck) {
        let Some(exec) = self.get(&ack.exec_id) else {
            return;
        };
        if exec.log.lock().acknowledge(ack.seq) {
            self.known.lock().remove(&ack.exec_id);
        }
        exec.acknowledged.notify_one();
    }

    pub(super) fn stdin(&self, input: ExecStdin) {
        if let Some(exec) = self.get(&input.exec_id)
            && !exec.stdin.push(input.offset, input.data, input.eof)
        {
            exec.report_stdin();
        }
    }

    pub(super) fn signal(&self, request: &Signal) -> Result<(), FileError> {
        let exec = self.get(&request.exec_id).ok_or(FileError::NoProcess)?;
        exec.signal(request.signal);
        Ok(())
    }

    pub(super) fn resize(&self, resize: &ExecResize) {
        if let Some(exec) = self.get(&resize.exec_id) {
            exec.resize(resize.size);
        }
    }

    pub(super) fn signal_all(&self, signal: i32) {
        for exec in self.all() {
            exec.signal(signal);
        }
    }

    /// Until nothing runs any more.
    pub(super) async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.running().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// A new link hears only of execs that it asks for.
    pub(super) fn detach_all(&self) {
        for exec in self.all() {
            exec.attached.store(false, Ordering::Relaxed);
        }
    }
}
