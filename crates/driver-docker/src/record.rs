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

/// What is known of every sandbox.
pub(crate) type Records = skerry_driver::Records<State>;

/// The agent's program, below the folder of records and below what a container is shown.
pub(crate) const PROGRAM: &str = "agent";
/// An id that no user of an image has: only the agent may look into folders of others.
const KEEPER: u32 = 65_533;

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) facts: Facts,
}

/// Makes the folder in which the records are, with the agent's program.
pub(crate) fn open(data_dir: &Path, agent: &[u8]) -> io::Result<Records> {
    let records = Records::open(data_dir.join("docker"))?;
    // Anew, since links to an earlier one may be in use.
    let new = records.root().join("agent.new");
    fs::write(&new, agent)?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    fs::rename(&new, records.root().join(PROGRAM))?;
    Ok(records)
}

/// Begins the record of a sandbox. `AlreadyExists`: there is one.
pub(crate) fn begin(records: &Records, id: SandboxId, state: &State) -> io::Result<()> {
    records.begin(id)?;
    let inside = inside(records, id);
    DirBuilder::new().mode(0o700).create(&inside)?;
    fs::hard_link(records.root().join(PROGRAM), inside.join(PROGRAM))?;
    if geteuid().is_root() {
        chown(&inside, Some(KEEPER), Some(KEEPER))?;
    }
    records.write(id, state)
}

/// What the container is shown of us.
pub(crate) fn inside(records: &Records, id: SandboxId) -> PathBuf {
    records.folder(id).join("inside")
}
