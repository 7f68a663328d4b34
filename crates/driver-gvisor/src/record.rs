//! What the driver remembers of a sandbox on disk, so that any later daemon can find, take up and remove all of it.
//!
//! The folder `gvisor/<label>` is made before anything else of a sandbox and removed after everything else.
//!
//! * `state.json` what is known of it
//! * `bundle/` its description for `runsc`
//! * `r/` the state that `runsc` keeps (a short name: a socket's address in there has room for a short path only)
//! * `inside/` what the sandbox is shown of us: the agent's program and the socket that it dials
//! * `memory/` what ran when it was paused
//!
//! Beside them lie the agents' programs, `agent-<n>`, to which each sandbox has a link. Earlier ones stay: memory of theirs may be kept.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skerry_driver::{Facts, Spec};
use skerry_sys::pidfd;
use skerry_types::SandboxId;

const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";

/// The kernel of a sandbox, a process of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sentry {
    pub(crate) pid: u32,
    pub(crate) started: u64,
}

impl Sentry {
    pub(crate) fn identity(self) -> pidfd::Identity {
        pidfd::Identity {
            pid: self.pid,
            started: self.started,
        }
    }
}

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// `None` until it is started and after it was killed.
    pub(crate) sentry: Option<Sentry>,
    /// The first of its ids on the host.
    pub(crate) first_id: u32,
    /// Paused: it is in `memory/`, whatever runs.
    pub(crate) on_disk: bool,
    /// The name of its agent's program.
    pub(crate) agent: String,
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
        let root = data_dir.join("gvisor");
        match DirBuilder::new().mode(0o700).create(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self { root }),
        }
    }

    /// The name under which this program lies there.
    pub(crate) fn keep_agent(&self, program: &[u8]) -> io::Result<String> {
        for number in 1.. {
            let name = format!("agent-{number}");
            match fs::read(self.agent(&name)) {
                Ok(there) if there == program => return Ok(name),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let new = self.agent("agent.new");
                    fs::write(&new, program)?;
                    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
                    fs::rename(&new, self.agent(&name))?;
                    return Ok(name);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::QuotaExceeded.into())
    }

    /// An agent's program.
    pub(crate) fn agent(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn folder(&self, id: SandboxId) -> Folder {
        Folder(self.root.join(id.label()))
    }

    /// Begins the record of a sandbox. `AlreadyExists`: there is one.
    pub(crate) fn begin(&self, id: SandboxId) -> io::Result<()> {
        let mut folder = DirBuilder::new();
        folder.mode(0o700).create(&self.folder(id).0)
    }

    /// Is anything remembered of it?
    pub(crate) fn exists(&self, id: SandboxId) -> bool {
        self.folder(id).0.is_dir()
    }

    /// Replaces what is remembered, whole or not at all.
    pub(crate) fn write(&self, state: &State) -> io::Result<()> {
        let folder = self.folder(state.spec.id).0;
        let new = folder.join(STATE_NEW);
        fs::write(&new, serde_json::to_vec(state)?)?;
        fs::rename(new, folder.join(STATE))
    }

    /// What is remembered; `None` if that is nothing, or not whole because the machine itself went down.
    pub(crate) fn read(&self, id: SandboxId) -> io::Result<Option<State>> {
        match fs::read(self.folder(id).0.join(STATE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every sandbox of which there is anything: nothing of one is made before its record or outlives it.
    pub(crate) fn list(&self) -> io::Result<Vec<SandboxId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.parse::<SandboxId>().ok()),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Ends the record. Fine if there is none.
    pub(crate) fn remove(&self, id: SandboxId) -> io::Result<()> {
        remove_folder(&self.folder(id).0)
    }
}

/// Fine if there is none.
pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The folder of one sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The state that `runsc` keeps.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("r")
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    pub(crate) fn inside(&self) -> PathBuf {
        self.0.join("inside")
    }

    /// Where its memory is while it is paused.
    pub(crate) fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }

    /// Where `runsc` writes which process is the sentry.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// Where `runsc` writes what went wrong.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("runsc.log")
    }
}

/// A folder by handle: the address of a socket has room for a short path only, and a data folder's may be long.
#[derive(Debug)]
pub(crate) struct Place(OwnedFd);

impl Place {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(fs::File::open(folder)?.into()))
    }

    /// A path to something in it, valid while this lives.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(name)
    }
}
