//! The shell of one session: its pipes, and one job after another.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use skerry_proto::agent::{Ended, SessionOpen};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::exec::command::{Command, StartError};
use crate::exec::spawn::{Descriptors, spawn};
use crate::exec::streams::{self, Streams, watch};
use crate::exec::{
    Exec, Limits, Target, Usage, Watchdog, drain, ended, feeding, supervise, until_gone, write_all,
};
use crate::procs;
use crate::reap::{Exit, Reaper};
use crate::session::script::{STATUS_FD, STDIN_FD, Status, order};

/// Read at once from pipes that nobody listens to.
const DISCARD_BYTES: usize = 64 * 1024;

/// A script to run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) exec: Rc<Exec>,
    pub(super) script: Bytes,
    pub(super) limits: Limits,
}

/// A running shell.
pub(super) struct Shell {
    pid: u32,
    orders: AsyncFd<OwnedFd>,
    status: AsyncFd<OwnedFd>,
    streams: Streams,
    stdin: ScriptStdin,
    exited: oneshot::Receiver<Exit>,
    reaper: Rc<Reaper>,
}

/// How a job went.
enum Went {
    Code(i32),
    /// The shell is gone, and the session with it.
    ShellGone(Option<Exit>),
}

impl Shell {
    /// Starts the shell that is asked for, or the best there is.
    pub(super) fn start(agent: &Agent, request: &SessionOpen) -> Result<Self, StartError> {
        let shell = if !request.shell.is_empty() {
            request.shell.clone()
        } else if Path::new("/bin/bash").exists() {
            Bytes::from_static(b"/bin/bash")
        } else {
            Bytes::from_static(b"/bin/sh")
        };
        let argv = [shell, Bytes::from_static(b"-s")];
        let mut command = Command::resolve(&argv, &request.env, &request.cwd, &request.user)?;
        command.shorten_name();
        let pipes = Pipes::open().map_err(StartError::Pipes)?;
        let pid = spawn(&command, pipes.theirs, agent.level)?;
        let exited = agent.reaper.exit_of(pid);
        let watched = || -> io::Result<Self> {
            Ok(Self {
                pid,
                orders: watch(pipes.orders)?,
                status: watch(pipes.status)?,
                streams: Streams::pipes(pipes.out, pipes.err)?,
                stdin: pipes.stdin,
                exited,
                reaper: agent.reaper.clone(),
            })
        };
        watched().map_err(StartError::Pipes)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs jobs until the shell is gone.
    pub(super) async fn serve(mut self, mut jobs: mpsc::Receiver<Job>, busy: &Cell<bool>) {
        loop {
            let job = tokio::select! {
                biased;
                _ = &mut self.exited => break,
                Some(job) = jobs.recv() => job,
                // A background process writes while no command runs: nobody's output.
                _ = self.streams.next(DISCARD_BYTES) => continue,
            };
            let alive = self.run(job, busy).await;
            if !alive {
                break;
            }
        }
        jobs.close();
        while let Some(job) = jobs.recv().await {
            job.exec.fail(&StartError::NoSession);
        }
    }

    async fn run(&mut self, job: Job, busy: &Cell<bool>) -> bool {
        let exec = &*job.exec;
        self.discard();
        let started = Instant::now();
        let cpu_before = procs::cpu(self.pid);
        let target = Target::Shell(self.pid);
        exec.started(self.pid, target);
        let mut watchdog = Watchdog::new(target, job.limits);
        let into = if exec.stdin.is_closed() {
            None
        } else {
            self.stdin.open()
        };
        let talk = talk(&self.orders, &self.status, &mut self.exited, &job.script);
        let end = feeding(exec, into, talk);
        let went = supervise(exec, &mut self.streams, &mut watchdog, end).await;
        let duration = started.elapsed();
        until_gone(exec, &mut self.streams, &mut watchdog, &self.reaper).await;
        drain(exec, &mut self.streams, false).await;
        busy.set(false);
        let cpu = match &went {
            Went::ShellGone(Some(exit)) => exit.cpu,
            _ => procs::cpu(self.pid),
        };
        let how = match (&went, watchdog.has_bitten()) {
            (_, true) => Ended::TimedOut(true),
            (Went::Code(code), false) => Ended::Code(*code),
            (Went::ShellGone(exit), false) => ended(exit.map(|exit| exit.how)),
        };
        exec.end(how, usage(cpu.saturating_sub(cpu_before), duration));
        matches!(went, Went::Code(_))
    }

    /// What an earlier command left in the pipes belongs to no later one.
    fn discard(&mut self) {
        self.streams.measure(false);
        while self.streams.drain(DISCARD_BYTES).is_some() {}
        self.stdin.discard();
    }
}

/// The kernel does not say how much memory one script of a shell took, so that stays unknown.
fn usage(cpu: Duration, duration: Duration) -> Usage {
    Usage {
        cpu,
        peak_memory: 0,
        duration,
    }
}

/// Gives the shell a script and waits for its code, or for the shell's end.
fn talk<'a>(
    orders: &'a AsyncFd<OwnedFd>,
    status: &'a AsyncFd<OwnedFd>,
    exited: &'a mut oneshot::Receiver<Exit>,
    script: &'a [u8],
) -> impl Future<Output = Went> + 'a {
    let answer = async move {
        let nonce = nonce();
        // A shell that takes no orders is about to be gone.
        let _: io::Result<()> = write_all(orders, &order(script, nonce)).await;
        let mut lines = Status::default();
        while let Ok(bytes) = streams::read(status, DISCARD_BYTES).await
            && !bytes.is_empty()
        {
            if let Some(code) = lines.push(&bytes, nonce) {
                return code;
            }
        }
        // No shell holds the pipe any more: `exec` replaced it, and its end will be the answer.
        std::future::pending().await
    };
    async move {
        tokio::select! {
            code = answer => Went::Code(code),
            exit = exited => Went::ShellGone(exit.ok()),
        }
    }
}

fn nonce() -> u64 {
    let mut bytes = [0; 8];
    // It never fails nor blocks once the system has booted; a fixed number would still be no part of any output.
    let _: rustix::io::Result<usize> =
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}

/// Both sides of a shell's pipes.
struct Pipes {
    theirs: Descriptors,
    orders: OwnedFd,
    status: OwnedFd,
    out: OwnedFd,
    err: OwnedFd,
    stdin: ScriptStdin,
}

impl Pipes {
    fn open() -> io::Result<Self> {
        let (their_orders, orders) = pipe_with(PipeFlags::CLOEXEC)?;
        let (status, their_status) = pipe_with(PipeFlags::CLOEXEC)?;
        let (out, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let (their_stdin, _) = pipe_with(PipeFlags::CLOEXEC)?;
        let stdin = ScriptStdin::of(&their_stdin)?;
        let theirs = Descriptors {
            stdin: their_orders,
            stdout,
            stderr,
            extra: vec![(STATUS_FD, their_status), (STDIN_FD, their_stdin)],
            terminal: false,
        };
        Ok(Self {
            theirs,
            orders,
            status,
            out,
            err,
            stdin,
        })
    }
}

/// The pipe that all scripts of a session read. It has a writer only while a script with stdin runs, so that every other sees its end.
struct ScriptStdin {
    /// A reading end of our own, which does not block.
    reader: OwnedFd,
}

impl ScriptStdin {
    fn of(pipe: &OwnedFd) -> io::Result<Self> {
        let reader = reopen(pipe, OFlags::RDONLY)?;
        Ok(Self { reader })
    }

    /// A new writer. Without `/proc` there is none, and stdin stays empty.
    fn open(&self) -> Option<AsyncFd<OwnedFd>> {
        watch(reopen(&self.reader, OFlags::WRONLY).ok()?).ok()
    }

    fn discard(&self) {
        let mut buffer = vec![0; DISCARD_BYTES];
        while rustix::io::read(&self.reader, &mut buffer[..]).is_ok_and(|count| count > 0) {}
    }
}

/// Another end of the same pipe.
fn reopen(pipe: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
