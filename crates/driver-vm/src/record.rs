//! What the driver remembers of a sandbox on disk, so that any later daemon can find, take up and remove all of it.
//!
//! The folder `vm/run/<label>` is made before anything else of a sandbox and removed after everything else.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skerry_driver::{Facts, Spec};
use skerry_sys::pidfd::Identity;
use skerry_types::SandboxId;

use crate::layout;
use crate::machine::Shape;

const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";

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

/// A QEMU that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) started: u64,
}

impl Process {
    pub(crate) fn identity(self) -> Identity {
        Identity {
            pid: self.pid,
            started: self.started,
        }
    }
}

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// `None` while it does not run.
    pub(crate) process: Option<Process>,
    /// Paused: its memory and devices are whole on disk.
    pub(crate) on_disk: bool,
    /// The host's user that runs it.
    pub(crate) uid: u32,
    pub(crate) shape: Shape,
    pub(crate) spec: Spec,
    pub(crate) facts: Facts,
}

/// The folders of all sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    root: PathBuf,
}

impl Records {
    /// Makes the folder in which the records are.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("vm/run");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)?;
        Ok(Self { root })
    }

    fn folder(&self, id: SandboxId) -> PathBuf {
        self.root.join(id.label())
    }

    /// Begins the record of a sandbox. `AlreadyExists`: there is one.
    pub(crate) fn begin(&self, id: SandboxId) -> io::Result<()> {
        layout::make_new(&self.folder(id))
    }

    /// Is anything remembered of it?
    pub(crate) fn exists(&self, id: SandboxId) -> bool {
        self.folder(id).is_dir()
    }

    /// Replaces what is remembered, whole or not at all.
    pub(crate) fn write(&self, id: SandboxId, state: &State) -> io::Result<()> {
        let folder = self.folder(id);
        let new = folder.join(STATE_NEW);
        fs::write(&new, serde_json::to_vec(state)?)?;
        fs::rename(new, folder.join(STATE))
    }

    /// What is remembered; `None` if that is nothing, or not whole because the machine itself went down.
    pub(crate) fn read(&self, id: SandboxId) -> io::Result<Option<State>> {
        match fs::read(self.folder(id).join(STATE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every sandbox with a record.
    pub(crate) fn list(&self) -> io::Result<Vec<SandboxId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.parse::<SandboxId>().ok()),
            );
        }
        Ok(ids)
    }

    /// Listening sockets that QEMU inherits.
    pub(crate) fn listen(&self, id: SandboxId) -> io::Result<[OwnedFd; 3]> {
        let place = self.place(id)?;
        let [control, agent, monitor] = Socket::ALL.map(|socket| place.listen(socket));
        Ok([control?, agent?, monitor?])
    }

    /// Where its sockets are.
    pub(crate) fn place(&self, id: SandboxId) -> io::Result<Place> {
        Ok(Place(fs::File::open(self.folder(id))?))
    }

    /// Ends the record. Fine if there is none.
    pub(crate) fn remove(&self, id: SandboxId) -> io::Result<()> {
        layout::remove(&self.folder(id))
    }
}

/// A folder by handle: the address of a socket has room for a short path only, and a data folder's may be long.
#[derive(Debug)]
pub(crate) struct Place(fs::File);

impl Place {
    /// A socket's path, valid while this lives.
    pub(crate) fn path(&self, socket: Socket) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(socket.name())
    }

    fn listen(&self, socket: Socket) -> io::Result<OwnedFd> {
        let path = self.path(socket);
        layout::remove_file(&path)?;
        Ok(UnixListener::bind(path)?.into())
    }
}
