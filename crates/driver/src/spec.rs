//! What to make, and what was made.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_types::{Resources, SandboxId};

use crate::Isolation;

/// How much root inside is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    /// No capability at all and `no_new_privs`, whatever the uid.
    Restricted,
    /// Root and sudo work inside the sandbox's own user namespace, with a short list of capabilities; none on the host.
    Root,
}

/// What the sandbox can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Only itself.
    None,
    /// Public addresses on the internet; never the host, other sandboxes, private ranges or metadata services.
    Nat,
}

/// A read-only folder of the host shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// Inside, absolute.
    pub target: PathBuf,
}

/// What the root file system is made of, below the sandbox's own writable layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Read-only folders, lowest first. Never changed by a sandbox.
    pub layers: Vec<PathBuf>,
    /// Shown on top of them, read-only.
    pub binds: Vec<Bind>,
}

/// A folder of the host that the sandbox may write to, which others may have mounted too and which outlives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// On the host. Files in it have the owners that they have inside, shifted as storage has them.
    pub source: PathBuf,
    /// Inside: an absolute path that [`skerry_types::mounts::check`] allows. Made if it is missing; a link on the way is not followed.
    pub target: PathBuf,
}

/// A sandbox to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its id, given by the caller.
    pub id: SandboxId,
    /// What it may use at most.
    pub resources: Resources,
    /// What it starts from.
    pub rootfs: Rootfs,
    /// How much root inside is worth.
    pub privilege: Privilege,
    /// What it can reach.
    pub network: NetworkMode,
    /// Its host name.
    pub hostname: String,
    /// Never part of a fork's or a snapshot's files: what is made from those has the same ones again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
}

/// A step of making it and what it took, for the report of where the time goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
}

/// What runs the instructions of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, which translates them.
    Tcg,
}

impl Accelerator {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What was really made: goes on the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The driver's name.
    pub driver: String,
    /// What stands between it and the host.
    pub isolation: Isolation,
    /// What runs its instructions, if it is a guest.
    pub accelerator: Option<Accelerator>,
    /// How much root inside is worth.
    pub privilege: Privilege,
    /// Where its writes go: btrfs, reflink, copy …
    pub storage: String,
    /// The disk limit binds.
    pub disk_quota: bool,
    /// The memory, CPU and process limits bind.
    pub limits: bool,
    /// Its address in its own network, if it has one.
    pub address: Option<Ipv4Addr>,
}

/// How much of a sandbox is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Its files.
    Files,
    /// Its files, its memory and its processes.
    Memory,
}

impl Extent {
    pub(crate) const fn snapshot_name(self) -> &'static str {
        match self {
            Self::Files => "keep a snapshot of files",
            Self::Memory => "keep a snapshot with memory",
        }
    }
}

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// For how long the sandbox stood still.
    pub held: Duration,
    /// What it takes on disk, in bytes, as far as the storage can say.
    pub bytes: u64,
    /// Where the time went.
    pub steps: Vec<Step>,
}

/// A sandbox that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What it really is.
    pub facts: Facts,
    /// Where the time went.
    pub steps: Vec<Step>,
}

/// What a sandbox uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time since its start, in microseconds.
    pub cpu_us: u64,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// The most it used, in bytes.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// What it wrote and still has, in bytes.
    pub disk_bytes: u64,
    /// Times the kernel killed one of its processes for lack of memory.
    pub oom_kills: u64,
}
