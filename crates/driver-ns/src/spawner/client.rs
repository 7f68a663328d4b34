//! The driver's end: keeps a spawner running and puts one request after the other to it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use skerry_sys::{fdpass, watch};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use super::blank::Blank;
use super::message::{Bounds, Failure, MAX_BYTES, Order, Reply};
use super::{Fds, Lap};

/// The spawner gives up on a child well before.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests waiting for their turn.
const QUEUE: usize = 64;

/// Why a sandbox was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// There is no spawner; the request was not carried out.
    #[error("cannot start the spawner")]
    NoSpawner(#[source] io::Error),
    /// The request cannot be sent, and was not.
    #[error("cannot put the request to the spawner")]
    Send(#[source] io::Error),
    /// The spawner died over the request: whether it was carried out is unknown.
    #[error("the spawner died over the request")]
    Lost(#[source] io::Error),
    /// The spawner says why.
    #[error(transparent)]
    Failed(#[from] Failure),
}

type Answer = Result<(Blank, Vec<Lap>), SpawnError>;

#[derive(Debug)]
struct Job {
    message: Vec<u8>,
    fds: Arc<Fds>,
    answer: oneshot::Sender<Answer>,
}

/// Puts requests to the spawner.
#[derive(Debug)]
pub(crate) struct Client {
    jobs: mpsc::Sender<Job>,
}

impl Client {
    /// Starts the task that owns the spawner. The spawner itself comes up at once, so that the first request need not wait for it.
    pub(crate) fn start(command: Vec<OsString>) -> Result<Self, SpawnError> {
        let mut owner = Owner {
            running: Some(Running::start(&command).map_err(SpawnError::NoSpawner)?),
            command,
        };
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                owner.work(job).await;
            }
        });
        Ok(Self { jobs })
    }

    /// Starts the first process of a sandbox, and says what that took.
    pub(crate) async fn spawn(&self, bounds: Bounds, fds: Arc<Fds>) -> Answer {
        let message = serde_json::to_vec(&Order::Blank(bounds));
        let message = message.map_err(|e| SpawnError::Send(e.into()))?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            message,
            fds,
            answer,
        };
        let gone = || SpawnError::Send(io::ErrorKind::BrokenPipe.into());
        self.jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The task's own: one spawner at a time, made anew when it is gone.
#[derive(Debug)]
struct Owner {
    command: Vec<OsString>,
    running: Option<Running>,
}

impl Owner {
    async fn work(&mut self, job: Job) {
        let done = self.carry_out(&job).await;
        // One that nobody waits for any more ends when it is dropped.
        drop(job.answer.send(done));
    }

    async fn carry_out(&mut self, job: &Job) -> Answer {
        self.send(job)?;
        // Taken out, so that a spawner that broke is not asked again.
        let Some(running) = self.running.take() else {
            return Err(SpawnError::Send(io::ErrorKind::NotConnected.into()));
        };
        let heard = running.hear(REPLY_TIMEOUT).await;
        let (reply, fds) = heard.map_err(SpawnError::Lost)?;
        self.running = Some(running);
        match (reply, <[OwnedFd; 2]>::try_from(fds)) {
            (Reply::Failed(failure), _) => Err(failure.into()),
            (Reply::Blank { pid, steps }, Ok([pidfd, socket])) => {
                let blank = Blank::new(pid, pidfd, socket).map_err(SpawnError::Lost)?;
                Ok((blank, steps))
            }
            (_, _) => Err(SpawnError::Lost(io::ErrorKind::InvalidData.into())),
        }
    }

    /// A message that could not be sent was not carried out, so it may go to the next spawner.
    fn send(&mut self, job: &Job) -> Result<(), SpawnError> {
        let send = |running: &Running| running.send(&job.message, &job.fds.all());
        if let Some(running) = &self.running
            && send(running).is_ok()
        {
            return Ok(());
        }
        let running = Running::start(&self.command).map_err(SpawnError::NoSpawner)?;
        send(&running).map_err(SpawnError::Send)?;
        self.running = Some(running);
        Ok(())
    }
}

/// A spawner that runs. It ends when its socket closes.
#[derive(Debug)]
pub(crate) struct Running {
    socket: AsyncFd<OwnedFd>,
    /// Held to be reaped; never killed.
    _child: Child,
}

impl Running {
    pub(crate) fn start(command: &[OsString]) -> io::Result<Self> {
        let (program, args) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (ours, theirs) = fdpass::pair()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Self {
            socket: watch::readable(ours)?,
            _child: child,
        })
    }

    pub(crate) fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        fdpass::send(self.socket.get_ref(), message, fds)
    }

    pub(crate) async fn hear(&self, patience: Duration) -> io::Result<(Reply, Vec<OwnedFd>)> {
        tokio::time::timeout(patience, self.receive()).await?
    }

    async fn receive(&self) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let mut buffer = vec![0; MAX_BYTES];
        loop {
            let mut ready = self.socket.readable().await?;
            let got = ready.try_io(|socket| fdpass::receive(socket.as_fd(), &mut buffer));
            let Ok(got) = got else {
                continue;
            };
            let (len, fds) = got?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let reply = serde_json::from_slice(&buffer[..len])?;
            return Ok((reply, fds));
        }
    }
}
