//! The driver's end of a blank process: one request makes it the agent of one sandbox.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use skerry_sys::{fdpass, pidfd, watch};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::message::{Failure, Lap, MAX_BYTES, Report, Request};

/// A child that has not become the agent by then is stuck, on a dead network file system perhaps.
const START_TIMEOUT: Duration = Duration::from_secs(20);

const MAX_REPORT_BYTES: usize = 16 * 1024;

/// The first process of a sandbox that is nobody's yet. It ends with this.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) pid: u32,
    /// `None` once it is an agent.
    pidfd: Option<OwnedFd>,
    socket: AsyncFd<OwnedFd>,
}

/// An agent that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) steps: Vec<Lap>,
}

impl Blank {
    pub(super) fn new(pid: u32, pidfd: OwnedFd, socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            pid,
            pidfd: Some(pidfd),
            socket: watch::readable(socket)?,
        })
    }

    /// Could it still become an agent?
    pub(crate) fn lives(&self) -> bool {
        let has_exited = self.pidfd.as_ref().map(pidfd::has_exited);
        has_exited.is_some_and(|exited| exited.is_ok_and(|exited| !exited))
    }

    /// Makes it the agent of this sandbox. `fds` are what comes with the request.
    pub(crate) async fn become_agent(
        mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Started, Failure> {
        let told = serde_json::to_vec(request).map_err(io::Error::from);
        let told = told.map_err(Failure::at("write the request"))?;
        if told.len() > MAX_BYTES {
            return Err(Failure::at("write the request")(
                io::ErrorKind::FileTooLarge,
            ));
        }
        let sent = fdpass::send(self.socket.get_ref(), &told, fds);
        let heard = timeout(START_TIMEOUT, self.hear()).await;
        let steps = match heard.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Ok(steps)) => steps,
            Ok(Err(failure)) => return Err(failure),
            // Of one that is gone without a word, the first that was noticed.
            Err(error) => {
                sent.map_err(Failure::at("tell a child which sandbox it is"))?;
                return Err(Failure::at("hear from the child")(error));
            }
        };
        let pidfd = self.pidfd.take().ok_or(io::ErrorKind::NotFound);
        Ok(Started {
            pid: self.pid,
            pidfd: pidfd.map_err(Failure::at("keep a handle on the agent"))?,
            steps,
        })
    }

    /// Its report, and then its becoming the agent.
    async fn hear(&self) -> io::Result<Result<Vec<Lap>, Failure>> {
        let mut buffer = vec![0; MAX_REPORT_BYTES];
        let mut laps = None;
        loop {
            let mut ready = self.socket.readable().await?;
            let got = ready.try_io(|socket| fdpass::receive(socket.as_fd(), &mut buffer));
            let Ok(got) = got else {
                continue;
            };
            let (len, _) = got?;
            if len == 0 {
                let died = || io::Error::other("it died before it became the agent");
                return laps.map(Ok).ok_or_else(died);
            }
            match serde_json::from_slice(&buffer[..len])? {
                Report::Ready(steps) => laps = Some(steps),
                Report::Failed(failure) => return Ok(Err(failure)),
            }
        }
    }
}

impl Drop for Blank {
    fn drop(&mut self) {
        // It would end by itself, unless it is busy becoming an agent already.
        if let Some(pidfd) = &self.pidfd {
            let _gone = pidfd::kill(pidfd);
        }
    }
}
