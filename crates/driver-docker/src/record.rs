//! What the driver remembers of a sandbox on disk, so that any later daemon can find, take up and remove all of it.
//!
//! The folder `docker/<label>` is made before anything else of a sandbox and removed after everything else.
//!
//! * `state.json` what is known of it
//! * `inside/` what the container is shown of us: the agent's program and the socket that it dials

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use skerry_driver::Facts;
use skerry_types::SandboxId;

const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";
/// The agent's program, below the folder of records and below what a container is shown.
pub(crate) const PROGRAM: &str = "agent";
/// An id that no user of an image has: only the agent may look into folders of others.
const KEEPER: u32 = 65_533;

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) facts: Facts,
}

/// The folders of all sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    root: PathBuf,
}

impl Records {
    /// Makes the folder in which the records are, with the agent's program.
    pub(crate) fn open(data_dir: &Path, agent: &[u8]) -> io::Result<Self> {
        let root = data_dir.join("docker");
        match DirBuilder::new().mode(0o700).create(&root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Anew, since links to an earlier one may be in use.
        let (program, new) = (root.join(PROGRAM), root.join("agent.new"));
        fs::write(&new, agent)?;
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        fs::rename(&new, program)?;
        Ok(Self { root })
    }

    /// Begins the record of a sandbox. `AlreadyExists`: there is one.
    pub(crate) fn begin(&self, id: SandboxId, state: &State) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.folder(id))?;
        let inside = self.inside(id);
        DirBuilder::new().mode(0o700).create(&inside)?;
        fs::hard_link(self.root.join(PROGRAM), inside.join(PROGRAM))?;
        if geteuid().is_root() {
            chown(&inside, Some(KEEPER), Some(KEEPER))?;
        }
        let (path, new) = (self.folder(id).join(STATE), self.folder(id).join(STATE_NEW));
        fs::write(&new, serde_json::to_vec(state)?)?;
        fs::rename(new, path)
    }

    /// What is remembered; `None` if that is nothing, or not whole because the machine itself went down.
    pub(crate) fn read(&self, id: SandboxId) -> io::Result<Option<State>> {
        match fs::read(self.folder(id).join(STATE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Is anything remembered of it?
    pub(crate) fn exists(&self, id: SandboxId) -> bool {
        self.folder(id).is_dir()
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
        match fs::remove_dir_all(self.folder(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What the container is shown of us.
    pub(crate) fn inside(&self, id: SandboxId) -> PathBuf {
        self.folder(id).join("inside")
    }

    fn folder(&self, id: SandboxId) -> PathBuf {
        self.root.join(id.label())
    }
}
