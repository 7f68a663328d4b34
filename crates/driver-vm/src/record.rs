//! What the driver remembers of a sandbox on disk, so that any later daemon can find, take up and remove all of it.
//!
//! The folder `vm/run/<label>` is made before anything else of a sandbox and removed after everything else.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use skerry_driver::{DriverError, Facts, Spec};
use skerry_sys::pidfd::Identity;
use skerry_types::SandboxId;
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::error::at;
use crate::layout;
use crate::machine::Shape;

/// Until the next try of somebody for whom there was no place in line.
const COME_AGAIN: Duration = Duration::from_millis(20);

/// What is known of every sandbox.
pub(crate) type Records = skerry_driver::Records<State>;

/// A socket of QEMU's, in the order in which it gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Socket {
    Control,
    Agent,
    Monitor,
}

impl Socket {
    pub(crate) const ALL: [Self; 3] = [Self::Control, Self::Agent, Self::Monitor];

    const fn name(self) -> &'static str {
        match self {
            Self::Control => "control.sock",
            Self::Agent => "agent.sock",
            Self::Monitor => "monitor.sock",
        }
    }
}

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Its QEMU; `None` while it does not run.
    pub(crate) process: Option<Identity>,
    /// Paused: its memory and devices are whole on disk.
    pub(crate) on_disk: bool,
    /// The host's user that runs it.
    pub(crate) uid: u32,
    pub(crate) shape: Shape,
    pub(crate) spec: Spec,
    pub(crate) facts: Facts,
}

/// A folder by handle: the address of a socket has room for a short path only, and a data folder's may be long.
#[derive(Debug)]
pub(crate) struct Place(pub(crate) fs::File);

impl Place {
    pub(crate) fn of(records: &Records, id: SandboxId) -> Result<Self, DriverError> {
        let folder = fs::File::open(records.folder(id));
        folder.map(Self).map_err(at("open the record"))
    }

    /// Another handle on it.
    pub(crate) fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Listening sockets that QEMU inherits.
    pub(crate) fn listen(&self) -> io::Result<[OwnedFd; 3]> {
        let [control, agent, monitor] = Socket::ALL.map(|socket| self.listen_at(socket));
        Ok([control?, agent?, monitor?])
    }

    /// A socket's path, valid while this lives.
    pub(crate) fn path(&self, socket: Socket) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(socket.name())
    }

    /// A connection to one of its sockets. QEMU lets few stand in line; others come again.
    pub(crate) async fn connect(&self, socket: Socket) -> io::Result<UnixStream> {
        loop {
            match UnixStream::connect(self.path(socket)).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(COME_AGAIN).await,
                connected => return connected,
            }
        }
    }

    fn listen_at(&self, socket: Socket) -> io::Result<OwnedFd> {
        let path = self.path(socket);
        layout::remove_file(&path)?;
        Ok(UnixListener::bind(path)?.into())
    }
}
