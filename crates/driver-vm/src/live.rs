//! A sandbox that lives, as far as we know: its machine runs, or is paused on disk.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skerry_driver::DriverError;
use skerry_proto::guest::{Call, Link as Begin, MARK_BYTES};
use skerry_types::SandboxId;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::timeout;

use crate::control;
use crate::error::at;
use crate::link::Link;
use crate::record::{Place, Socket};

/// For the first try to begin a link; each further one has twice the time, which a guest that is only slow needs.
const FIRST_TRY: Duration = Duration::from_millis(500);
const TRIES: u32 = 6;
/// For all of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it is now.
#[derive(Debug, Clone)]
pub(crate) enum Now {
    /// Readable once the machine is gone.
    Runs(Arc<AsyncFd<OwnedFd>>),
    OnDisk,
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    now: watch::Sender<Now>,
    /// Held by whoever stops, keeps or resumes it: two at once would undo each other.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever begins a link.
    linking: tokio::sync::Mutex<()>,
    /// The one link, to be cut when the next begins.
    link: Mutex<Option<std::os::unix::net::UnixStream>>,
}

impl Live {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            now: watch::Sender::new(now),
            turn: Arc::default(),
            linking: tokio::sync::Mutex::default(),
            link: Mutex::default(),
        }
    }

    /// To stop, keep or resume it.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    pub(crate) fn now(&self) -> Now {
        self.now.borrow().clone()
    }

    /// Tells everybody who waits.
    pub(crate) fn becomes(&self, now: Now) {
        self.now.send_replace(now);
    }

    /// Returns once nothing of it runs or could be resumed.
    pub(crate) async fn gone(&self) -> Result<(), DriverError> {
        let mut changes = self.now.subscribe();
        loop {
            let now = changes.borrow_and_update().clone();
            let ended = match now {
                Now::Gone => return Ok(()),
                Now::OnDisk => None,
                Now::Runs(pidfd) => Some(pidfd),
            };
            let Some(pidfd) = ended else {
                // The sender lives as long as this.
                let _changed = changes.changed().await;
                continue;
            };
            tokio::select! {
                biased;
                _changed = changes.changed() => {}
                ended = pidfd.readable() => return ended.map(drop).map_err(at("wait for the machine")),
            }
        }
    }

    /// A new link to the agent; the one before ends.
    pub(crate) async fn connect(&self, id: SandboxId, place: &Place) -> Result<Link, DriverError> {
        let Now::Runs(pidfd) = self.now() else {
            return Err(DriverError::NotRunning(id));
        };
        let _one_at_a_time = self.linking.lock().await;
        tokio::select! {
            link = self.begin(place) => link,
            _gone = pidfd.readable() => Err(DriverError::NotRunning(id)),
        }
    }

    /// Where the host's end went away while the machine stood, the guest was seen to sleep through the first bytes of the next: then it is asked anew.
    async fn begin(&self, place: &Place) -> Result<Link, DriverError> {
        for earlier in 0..TRIES {
            self.cut();
            let patience = FIRST_TRY * 2_u32.pow(earlier);
            if let Ok(tried) = timeout(patience, self.try_to_begin(place)).await {
                return tried;
            }
        }
        Err(DriverError::TooSlow(PATIENCE.as_secs()))
    }

    async fn try_to_begin(&self, place: &Place) -> Result<Link, DriverError> {
        let mark: [u8; MARK_BYTES] = rand::random();
        let call = Call::Link(Begin {
            mark: mark.to_vec().into(),
        });
        control::ask(place, call, PATIENCE).await?;
        let begin = async {
            let port = place.connect(Socket::Agent).await?;
            let port = port.into_std()?;
            *self.link.lock() = Some(port.try_clone()?);
            Link::begin(UnixStream::from_std(port)?, mark).await
        };
        begin.await.map_err(at("connect to the agent"))
    }

    /// Ends the link, if there is one: QEMU takes no other before.
    pub(crate) fn cut(&self) {
        if let Some(link) = self.link.lock().take() {
            // Its other end may be gone already.
            let _ended: io::Result<()> = link.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// With the daemon that knows of it, a link ends.
impl Drop for Live {
    fn drop(&mut self) {
        self.cut();
    }
}
