//! What the driver is given.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use skerry_net::Network;
use skerry_storage::Storage;

/// See the module.
#[derive(Debug)]
pub struct Options {
    /// The node's folder; the driver keeps its records in `vm/run` below.
    pub data_dir: PathBuf,
    /// What runs in a machine.
    pub programs: Programs,
    /// The command that runs [`crate::launcher::main`].
    pub launcher_command: Vec<OsString>,
    /// The programs of others.
    pub tools: Tools,
    /// Where sandboxes write.
    pub storage: Arc<Storage>,
    /// Networks; without it sandboxes reach only themselves.
    pub network: Option<Network>,
    /// A control group that belongs to this driver alone, relative to the root of the tree.
    pub cgroup_parent: String,
    /// The first of the host's ids that belong to machines, 65 536 to each, of which the first runs it. Nobody else may have ids from here on.
    pub first_uid: u32,
}

impl Options {
    /// Users far from those of people, services and the sandboxes of other drivers.
    pub const FIRST_UID: u32 = 900_000_000;
}

/// Our programs in every machine.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// The static agent.
    pub agent: &'static [u8],
    /// The static first process.
    pub guest: &'static [u8],
}

/// Where the programs of others are: each in a tree of its own, or in the machine's (`/`).
#[derive(Debug, Clone)]
pub struct Tools {
    /// Has `usr/bin/qemu-system-x86_64` of 8.2 or newer and its firmware.
    pub qemu: PathBuf,
    /// Has `boot/vmlinuz-*` and its `lib/modules`; Debian's cloud kernel is what is tested.
    pub kernel: PathBuf,
}

impl Tools {
    /// Those that were unpacked into the user's cache folder (`scripts/tools.sh`), else those that are installed. They may be missing.
    pub fn find() -> Self {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
        let tools = cache.or_else(home).map(|cache| cache.join("skerry/tools"));
        let tree = |name: &str| {
            let unpacked = tools.as_ref().map(|tools| tools.join(name));
            let unpacked = unpacked.filter(|tree| tree.is_dir());
            unpacked.unwrap_or_else(|| PathBuf::from("/"))
        };
        Self {
            qemu: tree("qemu"),
            kernel: tree("kernel"),
        }
    }
}
