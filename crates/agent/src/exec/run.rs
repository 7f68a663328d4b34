//! One command from its start to its end: output out, stdin in, time kept.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use skerry_proto::agent::{Ended, ExecStart};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};

use crate::agent::Agent;
use crate::exec::command::{Command, StartError};
use crate::exec::log::Usage;
use crate::exec::spawn::{Descriptors, spawn};
use crate::exec::streams::{Streams, watch};
use crate::exec::{Exec, Target};
use crate::procs::Family;
use crate::pty::Terminal;
use crate::reap::{Exit, How, Reaper};

/// Between one KILL and the next, harder one.
const KILL_AGAIN: Duration = Duration::from_millis(500);
/// Nobody tells that a shell's children are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Killed processes that are not gone after this long are stuck in the kernel.
pub(crate) const STUCK: Duration = Duration::from_secs(5);

/// Starts what `start` asks for; its own task sees it to its end.
pub(super) fn start(
    agent: &Rc<Agent>,
    exec: &Rc<Exec>,
    start: &ExecStart,
) -> Result<(), StartError> {
    let command = Command::resolve(&start.argv, &start.env, &start.cwd, &start.user)?;
    let (descriptors, ends) = match start.tty {
        Some(size) => {
            let uid = command.user.uid;
            let (terminal, ours) = Terminal::open(size, uid).map_err(StartError::Terminal)?;
            let ends = Ends::terminal(&terminal).map_err(StartError::Terminal)?;
            exec.terminal.replace(Some(Rc::new(terminal)));
            (ours, ends)
        }
        None => pipes(start.stdin).map_err(StartError::Pipes)?,
    };
    let pid = spawn(&command, descriptors, agent.level)?;
    let exited = agent.reaper.exit_of(pid);
    let target = Target::Group(pid);
    exec.started(pid, target);
    let limits = Limits::new(start);
    let running = Running {
        exec: exec.clone(),
        reaper: agent.reaper.clone(),
        ends,
        watchdog: Watchdog::new(target, limits),
        started: Instant::now(),
    };
    spawn_local(running.see_through(exited));
    Ok(())
}

/// Our ends of a process's descriptors.
struct Ends {
    streams: Streams,
    stdin: Option<AsyncFd<OwnedFd>>,
    terminal: bool,
}

impl Ends {
    fn terminal(terminal: &Terminal) -> io::Result<Self> {
        Ok(Self {
            streams: Streams::terminal(terminal.side()?)?,
            stdin: Some(watch(terminal.side()?)?),
            terminal: true,
        })
    }
}

fn pipes(with_stdin: bool) -> io::Result<(Descriptors, Ends)> {
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (err, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdin, into) = if with_stdin {
        let (stdin, into) = pipe_with(PipeFlags::CLOEXEC)?;
        (stdin, Some(watch(into)?))
    } else {
        (nothing()?, None)
    };
    let descriptors = Descriptors {
        stdin,
        stdout,
        stderr,
        extra: Vec::new(),
        terminal: false,
    };
    let ends = Ends {
        streams: Streams::pipes(out, err)?,
        stdin: into,
        terminal: false,
    };
    Ok((descriptors, ends))
}

/// An empty stdin: `/dev/null`, by which programs tell it from input; without one, a pipe that has ended.
fn nothing() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    match rustix::fs::open("/dev/null", flags, Mode::empty()) {
        Ok(null) => Ok(null),
        Err(_) => Ok(pipe_with(PipeFlags::CLOEXEC)?.0),
    }
}

/// How long a command may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    timeout: Option<Duration>,
    grace: Duration,
}

impl Limits {
    pub(crate) fn new(start: &ExecStart) -> Self {
        Self {
            timeout: (start.timeout_ms > 0).then(|| Duration::from_millis(start.timeout_ms)),
            grace: Duration::from_millis(start.kill_grace_ms),
        }
    }
}

/// Ends what runs too long, harder each time.
#[derive(Debug)]
pub(crate) struct Watchdog {
    target: Target,
    grace: Duration,
    next: Option<Instant>,
    /// From the first bite on.
    bitten: Option<Bitten>,
}

#[derive(Debug)]
struct Bitten {
    /// Everybody concerned.
    family: Family,
    kill_at: Instant,
}

impl Watchdog {
    pub(crate) fn new(target: Target, limits: Limits) -> Self {
        Self {
            target,
            grace: limits.grace,
            next: limits
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout)),
            bitten: None,
        }
    }

    pub(crate) fn has_bitten(&self) -> bool {
        self.bitten.is_some()
    }

    async fn due(&self) {
        match self.next {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// TERM; after the grace KILL to all, again and again. A shell is killed as soon as it is alone.
    fn bite(&mut self) {
        let now = Instant::now();
        let is_shell = matches!(self.target, Target::Shell(_));
        let bitten = self.bitten.get_or_insert_with(|| {
            let family = Family::of(self.target.leader());
            self.target.terminate();
            let kill_at = now.checked_add(self.grace).unwrap_or(now);
            Bitten { family, kill_at }
        });
        self.next = if now >= bitten.kill_at || is_shell && bitten.family.followers().is_empty() {
            bitten.family.kill();
            now.checked_add(KILL_AGAIN)
        } else if is_shell {
            Some(bitten.kill_at.min(now + LOOK_AGAIN))
        } else {
            Some(bitten.kill_at)
        };
    }
}

/// Moves output until `end`, while the watchdog watches.
pub(crate) async fn supervise<T>(
    exec: &Exec,
    streams: &mut Streams,
    watchdog: &mut Watchdog,
    end: impl Future<Output = T>,
) -> T {
    let mut end = pin!(end);
    loop {
        tokio::select! {
            biased;
            value = &mut end => return value,
            () = watchdog.due() => watchdog.bite(),
            chunk = next_chunk(exec, streams) => exec.output(chunk),
        }
    }
}

/// Feeds stdin until `end`, and closes it then.
pub(crate) async fn feeding<T>(
    exec: &Exec,
    into: Option<AsyncFd<OwnedFd>>,
    end: impl Future<Output = T>,
) -> T {
    let feed = async move {
        if let Some(into) = into {
            exec.stdin.feed(&into, || exec.report_stdin()).await;
        }
    };
    let mut feed = pin!(feed);
    let mut end = pin!(end);
    tokio::select! {
        value = &mut end => value,
        () = &mut feed => end.await,
    }
}

async fn next_chunk(exec: &Exec, streams: &mut Streams) -> (u32, bytes::Bytes) {
    let room = exec.room().await;
    streams.next(room).await
}

/// Until everybody is gone who ran too long.
pub(crate) async fn until_gone(
    exec: &Exec,
    streams: &mut Streams,
    watchdog: &mut Watchdog,
    reaper: &Reaper,
) {
    if let Some(bitten) = &watchdog.bitten {
        let gone = timeout(watchdog.grace + STUCK, bitten.family.clone().gone(reaper));
        // Whoever is stuck in the kernel dies when the kernel lets go.
        let _: Result<(), _> = supervise(exec, streams, watchdog, gone).await;
    }
}

/// What was written before the end and is not read yet.
pub(crate) async fn drain(exec: &Exec, streams: &mut Streams, terminal: bool) {
    streams.measure(terminal);
    loop {
        let room = exec.room().await;
        match streams.drain(room) {
            Some(chunk) => exec.output(chunk),
            None => return,
        }
    }
}

struct Running {
    exec: Rc<Exec>,
    reaper: Rc<Reaper>,
    ends: Ends,
    watchdog: Watchdog,
    started: Instant,
}

impl Running {
    async fn see_through(mut self, exited: oneshot::Receiver<Exit>) {
        let (exec, streams) = (&*self.exec, &mut self.ends.streams);
        let end = feeding(exec, self.ends.stdin.take(), exited);
        let exit = supervise(exec, streams, &mut self.watchdog, end).await;
        let duration = self.started.elapsed();
        until_gone(exec, streams, &mut self.watchdog, &self.reaper).await;
        drain(exec, streams, self.ends.terminal).await;
        let usage = exit.as_ref().map_or_else(
            |_| Usage::default(),
            |exit| Usage {
                cpu: exit.cpu,
                peak_memory: exit.peak_memory,
                duration,
            },
        );
        let ended = if self.watchdog.has_bitten() {
            Ended::TimedOut(true)
        } else {
            ended(exit.ok().map(|exit| exit.how))
        };
        exec.end(ended, usage);
    }
}

/// The end of a process as the node hears it.
pub(crate) fn ended(how: Option<How>) -> Ended {
    match how {
        Some(How::Code(code)) => Ended::Code(code),
        Some(How::Signal(signal)) => Ended::Signal(signal),
        // The reaper never drops an exit; if it did, nobody may make up a code.
        None => Ended::Signal(libc::SIGKILL),
    }
}
