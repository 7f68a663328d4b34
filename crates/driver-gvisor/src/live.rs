//! A sandbox that lives, as far as we know: it runs, or is paused on disk.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use skerry_sys::pidfd;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::link::Exchange;

/// What it is now.
#[derive(Debug, Clone)]
pub(crate) enum Now {
    Runs(Arc<Running>),
    OnDisk,
    Gone,
}

/// Its processes, and the way to its agent.
#[derive(Debug)]
pub(crate) struct Running {
    /// Readable once the sentry is gone.
    pub(crate) pidfd: AsyncFd<OwnedFd>,
    pub(crate) exchange: Exchange,
}

impl Running {
    /// Returns once the sentry, and with it every process of the sandbox, is gone.
    pub(crate) async fn gone(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(drop)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    now: watch::Sender<Now>,
    turn: Arc<Mutex<()>>,
}

impl Live {
    pub(crate) fn new(now: Now) -> Arc<Self> {
        Arc::new(Self {
            now: watch::Sender::new(now),
            turn: Arc::default(),
        })
    }

    pub(crate) fn now(&self) -> Now {
        self.now.borrow().clone()
    }

    pub(crate) fn running(&self) -> Option<Arc<Running>> {
        match self.now() {
            Now::Runs(running) => Some(running),
            Now::OnDisk | Now::Gone => None,
        }
    }

    /// Nothing of it runs or could be resumed.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        match self.now() {
            Now::Runs(running) => pidfd::has_exited(running.pidfd.get_ref()),
            Now::OnDisk => Ok(false),
            Now::Gone => Ok(true),
        }
    }

    /// Tells everybody who waits.
    pub(crate) fn becomes(&self, now: Now) {
        self.now.send_replace(now);
    }

    /// For whoever freezes, keeps, pauses or resumes it: two at once would undo each other.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Returns once nothing of it runs or could be resumed.
    pub(crate) async fn gone(&self) -> io::Result<()> {
        let mut changes = self.now.subscribe();
        loop {
            let now = changes.borrow_and_update().clone();
            match now {
                Now::Gone => return Ok(()),
                // The sender lives as long as this.
                Now::OnDisk => drop(changes.changed().await),
                Now::Runs(running) => tokio::select! {
                    biased;
                    _changed = changes.changed() => {}
                    gone = running.gone() => return gone,
                },
            }
        }
    }
}
