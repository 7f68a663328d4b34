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

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skerry_driver::{Facts, Spec};
use skerry_sys::pidfd::Identity;
use skerry_types::SandboxId;

/// What is known of every sandbox.
pub(crate) type Records = skerry_driver::Records<State>;

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Its kernel, a process of the host. `None` until it is started and after it was killed.
    pub(crate) sentry: Option<Identity>,
    /// The first of its ids on the host.
    pub(crate) first_id: u32,
    /// Paused: it is in `memory/`, whatever runs.
    pub(crate) on_disk: bool,
    /// The name of its agent's program.
    pub(crate) agent: String,
    pub(crate) spec: Spec,
    pub(crate) facts: Facts,
}

/// The name under which an agent's program lies beside the records.
pub(crate) fn keep_agent(records: &Records, program: &[u8]) -> io::Result<String> {
    for number in 1.. {
        let name = format!("agent-{number}");
        match fs::read(agent(records, &name)) {
            Ok(there) if there == program => return Ok(name),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let new = agent(records, "agent.new");
                fs::write(&new, program)?;
                fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
                fs::rename(&new, agent(records, &name))?;
                return Ok(name);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::QuotaExceeded.into())
}

/// An agent's program.
pub(crate) fn agent(records: &Records, name: &str) -> PathBuf {
    records.root().join(name)
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
    pub(crate) fn of(records: &Records, id: SandboxId) -> Self {
        Self(records.folder(id))
    }

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
