//! What the driver is given.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use skerry_net::Network;
use skerry_storage::Storage;

use crate::Tool;

/// What the driver is given.
#[derive(Debug)]
pub struct Options {
    /// The node's folder; the driver keeps its records in `gvisor` below. Only this user may look into it.
    pub data_dir: PathBuf,
    /// The static agent.
    pub agent: &'static [u8],
    /// `runsc`, found and tried.
    pub tool: Tool,
    /// The command that runs [`crate::launch::main`].
    pub launcher_command: Vec<OsString>,
    /// Where sandboxes write.
    pub storage: Arc<Storage>,
    /// Networks; without it sandboxes reach only themselves.
    pub network: Option<Network>,
    /// A control group that belongs to this driver alone, relative to the root of the tree.
    pub cgroup_parent: String,
    /// The first of the host's ids that belong to sandboxes, 65 536 to each. Nobody else may have ids from here on.
    pub first_id: u32,
}

impl Options {
    /// An id range far from those that people, services and other drivers are given.
    pub const FIRST_ID: u32 = 1_900_000_000;
}
