//! What the driver remembers of a sandbox on disk, so that any later daemon can find, take up and remove all of it.
//!
//! The folder `run/<label>` is made before anything else of a sandbox and removed after everything else. It lies beside the volumes: what they
//! are on makes small files cheaply, and nothing of a sandbox is on one file system that a crash of the machine took from the other.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use skerry_driver::Facts;
use skerry_sys::pidfd::Identity;
use skerry_types::SandboxId;

const STATE: &str = "state.json";
/// What a state takes on disk, whatever it says.
const STATE_BYTES: usize = 1024;
const SOCKET: &str = "agent.sock";

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// What is its first process, or about to be; `None` before there is one and after it was killed.
    pub(crate) agent: Option<Identity>,
    /// The first of its ids on the host.
    pub(crate) first_id: Option<u32>,
    /// The file of its agent, if its memory can be kept.
    #[serde(default)]
    pub(crate) program: Option<String>,
    /// Frozen because somebody asked for it.
    pub(crate) paused: bool,
    /// `None` until it is known which sandbox this is.
    pub(crate) facts: Option<Facts>,
}

/// The folders of all sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    root: PathBuf,
}

impl Records {
    /// Makes the folder in which the records are, beside the volumes.
    pub(crate) fn open(storage: &Path) -> io::Result<Self> {
        let root = storage.join("run");
        match DirBuilder::new().mode(0o700).create(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self { root }),
        }
    }

    fn folder(&self, id: SandboxId) -> PathBuf {
        self.root.join(id.label())
    }

    /// Begins the record of a sandbox. `AlreadyExists`: there is one.
    pub(crate) fn begin(&self, id: SandboxId) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.folder(id))
    }

    /// Is anything remembered of it?
    pub(crate) fn exists(&self, id: SandboxId) -> bool {
        self.folder(id).is_dir()
    }

    /// Replaces what is remembered, whole or not at all: a daemon that is killed is killed before or after its one write.
    pub(crate) fn write(&self, id: SandboxId, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec(state)?;
        if text.len() > STATE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // Always of one length, so that nothing of an earlier state is left behind it.
        text.resize(STATE_BYTES, b' ');
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        options.open(self.folder(id).join(STATE))?.write_all(&text)
    }

    /// What is remembered; `None` if that is nothing, or not whole because the machine itself went down.
    pub(crate) fn read(&self, id: SandboxId) -> io::Result<Option<State>> {
        match fs::read(self.folder(id).join(STATE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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

    /// A listening socket that the agent inherits, and that outlives whoever made it.
    pub(crate) fn listen(&self, id: SandboxId) -> io::Result<OwnedFd> {
        self.unlisten(id)?;
        let folder = fs::File::open(self.folder(id))?;
        Ok(UnixListener::bind(own_path(&folder).join(SOCKET))?.into())
    }

    /// Nobody can reach that socket any more.
    pub(crate) fn unlisten(&self, id: SandboxId) -> io::Result<()> {
        if_there(fs::remove_file(self.folder(id).join(SOCKET))).map(drop)
    }

    /// Where the agent listens anew after its memory was kept: a folder that it is given, and in which nothing is trusted.
    pub(crate) fn home(&self, id: SandboxId) -> PathBuf {
        self.folder(id).join("home")
    }

    /// Makes the agent's home.
    pub(crate) fn make_home(&self, id: SandboxId) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.home(id))
    }

    /// Keeps the agent from listening in its home, until [`Records::free_home`].
    pub(crate) fn occupy_home(&self, id: SandboxId) -> io::Result<()> {
        match fs::File::create_new(self.home(id).join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets the agent listen in its home.
    pub(crate) fn free_home(&self, id: SandboxId) -> io::Result<()> {
        if_there(fs::remove_file(self.home(id).join(SOCKET))).map(drop)
    }

    /// Where to reach the agent. `ConnectionRefused`: nowhere for now.
    pub(crate) fn socket(&self, id: SandboxId) -> io::Result<Place> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |folder: PathBuf| rustix::fs::open(folder.join(SOCKET), flags, Mode::empty());
        let found = match open(self.home(id)) {
            Err(Errno::NOENT) => open(self.folder(id)),
            found => found,
        };
        let socket = match found {
            Err(Errno::NOENT) => return Err(io::ErrorKind::ConnectionRefused.into()),
            found => found?,
        };
        let mode = rustix::fs::fstat(&socket)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::Socket {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Place(socket.into()))
    }

    /// Ends the record. Fine if there is none. `true`: it was this call, of however many at once, that ended what is remembered.
    pub(crate) fn remove(&self, id: SandboxId) -> io::Result<bool> {
        let ended = if_there(fs::remove_file(self.folder(id).join(STATE)))?;
        if_there(fs::remove_dir_all(self.folder(id)))?;
        Ok(ended)
    }
}

/// Was there something to remove?
fn if_there(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A socket by a handle on it: an address has room for a short path only, and a data folder's may be long.
#[derive(Debug)]
pub(crate) struct Place(fs::File);

impl Place {
    /// The agent's socket, valid while this lives.
    pub(crate) fn socket(&self) -> PathBuf {
        own_path(&self.0)
    }
}

/// A short path to an open file, for this process while it is open.
fn own_path(file: &fs::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
