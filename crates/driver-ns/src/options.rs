//! What the driver is given.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use skerry_net::Network;
use skerry_storage::Storage;

use crate::memory::Tool;

/// What the driver is given.
#[derive(Debug)]
pub struct Options {
    /// The node's folder; the driver keeps its records in `run` below. Only this user may look into it.
    pub data_dir: PathBuf,
    /// The static agent.
    pub agent: &'static [u8],
    /// The command that runs [`crate::spawner::main`].
    pub spawner_command: Vec<OsString>,
    /// What keeps the memory of sandboxes, if there is any.
    pub criu: Option<Tool>,
    /// Where sandboxes write.
    pub storage: Arc<Storage>,
    /// Networks; without it sandboxes reach only themselves.
    pub network: Option<Network>,
    /// A control group that belongs to this node alone, relative to the root of the tree.
    pub cgroup_parent: String,
    /// The first of the host's ids that belong to sandboxes, 65 536 to each. Nobody but servers may have ids from here on; they divide them up. Only
    /// root has such ids.
    pub first_id: u32,
    /// Why an ordinary user's sandboxes have one id only, if that was tried to be mended ([`crate::enter_users`]).
    pub why_one_id: Option<String>,
}

impl Options {
    /// An id range far from those that people, services and other container tools are given.
    pub const FIRST_ID: u32 = 1_000_000_000;
}
