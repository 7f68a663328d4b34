//! Where memory lies: a folder for each snapshot that has any, beside the pool if there is one, and the agents that sandboxes were started with.
//!
//! Images map the agent's program and do not hold it, so it stays as long as there is the data folder: one file for each release that ran.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skerry_driver::{DriverError, Privilege};
use skerry_storage::Storage;
use skerry_sys::folder;
use skerry_sys::mount::{self, Attributes};
use skerry_types::SnapshotId;

use super::kernel::Known;
use super::order::Kept;
use super::tool::Tool;
use crate::snapshots::Marks;

/// Written last: what there is before is not whole.
const WHOLE: &str = "kept.json";

/// What this driver needs to keep memory, where it can.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) tool: Tool,
    /// The file of the agent that new sandboxes are started with.
    pub(crate) agent: String,
    pub(crate) kernel: Known,
}

impl Memory {
    pub(crate) fn new(tool: Tool, memories: &Memories, agent: &[u8]) -> Result<Self, DriverError> {
        let agent = memories.keep_agent(agent);
        let agent = agent.map_err(DriverError::step("keep the agent's program"))?;
        Ok(Self {
            tool,
            agent,
            kernel: Known::default(),
        })
    }
}

/// The folders of kept memory.
#[derive(Debug, Clone)]
pub(crate) struct Memories {
    folder: PathBuf,
    agents: PathBuf,
}

/// What was kept, and of what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) kept: Kept,
    /// The agent's file.
    pub(crate) agent: String,
    pub(crate) privilege: Privilege,
    pub(crate) has_address: bool,
}

impl Memories {
    /// Removes the memory of snapshots without a mark: a machine that lost power may have it on one disk, and nothing on the other.
    pub(crate) fn open(storage: &Storage, marks: &Marks) -> Result<Self, DriverError> {
        let failed = || DriverError::step("open the folders of kept memory");
        let memories = Self {
            folder: storage.folder_beside("ns-memory").map_err(failed())?,
            agents: storage.own_folder("ns-agents").map_err(failed())?,
        };
        let forgotten = memories.forget_lost(marks);
        forgotten.map_err(DriverError::step("remove memory that nobody knows"))?;
        Ok(memories)
    }

    fn forget_lost(&self, marks: &Marks) -> io::Result<()> {
        let known = marks.list()?;
        let kept: Vec<SnapshotId> = folder::names(&self.folder, "")?;
        let mut lost = kept.into_iter().filter(|id| !known.contains(id));
        lost.try_for_each(|id| self.remove(id))
    }

    pub(crate) fn of(&self, id: SnapshotId) -> PathBuf {
        self.folder.join(id.label())
    }

    pub(crate) fn begin(&self, id: SnapshotId) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.of(id))
    }

    pub(crate) fn finish(&self, id: SnapshotId, origin: &Origin) -> io::Result<()> {
        fs::write(self.of(id).join(WHOLE), serde_json::to_vec(origin)?)
    }

    /// `None`: this snapshot has no memory.
    pub(crate) fn read(&self, id: SnapshotId) -> io::Result<Option<Origin>> {
        match fs::read(self.of(id).join(WHOLE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn bytes(&self, id: SnapshotId) -> io::Result<u64> {
        let files = fs::read_dir(self.of(id))?;
        files.map(|file| Ok(file?.metadata()?.len())).sum()
    }

    pub(crate) fn remove(&self, id: SnapshotId) -> io::Result<()> {
        match fs::remove_dir_all(self.of(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The name of the file of an agent; it is written if it is not there.
    pub(crate) fn keep_agent(&self, program: &[u8]) -> io::Result<String> {
        let name: String = Sha256::digest(program)[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = self.agents.join(&name);
        if path.exists() {
            return Ok(name);
        }
        let new = path.with_extension("new");
        fs::write(&new, program)?;
        fs::set_permissions(&new, Permissions::from_mode(0o555))?;
        folder::publish(&new, &path)?;
        Ok(name)
    }

    /// The agent in that file, through a mount that shows nothing else and through which nobody can write.
    pub(crate) fn agent(&self, name: &str) -> io::Result<OwnedFd> {
        let shown = mount::copy(&self.agents.join(name))?;
        let fixed = Attributes::READ_ONLY.and(Attributes::NO_SUID);
        mount::restrict(shown.as_fd(), fixed.and(Attributes::NO_DEV), None)?;
        Ok(shown)
    }
}
