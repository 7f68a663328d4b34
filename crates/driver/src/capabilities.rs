//! What a driver declares about itself.

use serde::{Deserialize, Serialize};

use crate::DriverError;

/// What stands between a sandbox and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// The host's kernel, fenced by namespaces, seccomp and cgroups.
    Namespace,
    /// A second kernel in user space.
    ApplicationKernel,
    /// A virtual machine.
    Vm,
    /// Another machine.
    Remote,
    /// Nothing: a simulation.
    None,
}

impl Isolation {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::ApplicationKernel => "application_kernel",
            Self::Vm => "vm",
            Self::Remote => "remote",
            Self::None => "none",
        }
    }
}

/// What a driver can do on this machine. The conformance suite takes its expectations from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a table of independent yes or no"
)]
pub struct Capabilities {
    /// The driver's name: ns, gvisor, vm, docker, fly or sim.
    pub driver: String,
    /// What stands between a sandbox and the host.
    pub isolation: Isolation,
    /// Runs without root on the host.
    pub rootless: bool,
    /// Can freeze and thaw.
    pub pause: bool,
    /// A paused sandbox is on disk: it uses no memory and survives a restart of the machine.
    pub pause_to_disk: bool,
    /// Can keep a snapshot of files and restore it.
    pub file_snapshot: bool,
    /// A snapshot can have memory and processes; so can a fork, which is a snapshot and its restore.
    pub memory_snapshot: bool,
    /// A fork can have its parent's files.
    pub file_fork: bool,
    /// The time of a file fork does not grow with what was written.
    pub constant_time_fork: bool,
    /// Memory, CPU and process limits bind.
    pub limits: bool,
    /// Who runs into the memory or process limit fails alone; without it the whole sandbox ends.
    pub limits_spare_sandbox: bool,
    /// The disk limit binds.
    pub disk_quota: bool,
    /// System calls that programs have no use for never reach the host's kernel.
    pub call_filter: bool,
    /// Level `root` can be had.
    pub level_root: bool,
    /// Programs can run as other users than uid 0.
    pub users: bool,
    /// Network `nat` can be had.
    pub nat: bool,
    /// What is missing and what would help, one sentence each.
    pub notes: Vec<String>,
}

impl Capabilities {
    /// The error for something this driver cannot do.
    pub fn unsupported(&self, what: &str) -> DriverError {
        DriverError::Unsupported(format!("driver {} cannot {what} here", self.driver))
    }
}
