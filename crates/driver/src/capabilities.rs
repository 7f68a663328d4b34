//! What a driver declares about itself.

use serde::{Deserialize, Serialize};

use skerry_types::mounts;

use crate::DriverError;
use crate::spec::{Facts, Spec};

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

/// What a machine has, as far as it decides what a driver can do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a table of independent yes or no"
)]
pub struct Machine {
    /// We are its root, or the engine that makes the sandboxes is.
    pub root: bool,
    /// Users inside can be more than one.
    pub ids: bool,
    /// Control groups for memory, CPU and processes.
    pub cgroups: bool,
    /// Storage that copies what a sandbox wrote without reading it.
    pub sharing: bool,
    /// Storage that bounds what a sandbox writes.
    pub quota: bool,
    /// A gateway for network `nat`.
    pub nat: bool,
    /// A CRIU that works.
    pub criu: bool,
}

impl Machine {
    /// One that lacks nothing.
    pub const FULL: Self = Self {
        root: true,
        ids: true,
        cgroups: true,
        sharing: true,
        quota: true,
        nat: true,
        criu: true,
    };
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
    /// Connections to the outside go on in a sandbox whose memory is kept; without it they end there too, as they do in its copies.
    pub keeps_connections: bool,
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
    /// Network `nat` can be had, through the gateway of the node, which keeps the rules of where each sandbox may connect.
    pub nat: bool,
    /// Volumes can be mounted.
    pub volumes: bool,
    /// What is missing and what would help, one sentence each.
    pub notes: Vec<String>,
}

impl Capabilities {
    /// What a sandbox really is that a driver with these makes, as far as that follows from them.
    pub fn facts(&self, spec: &Spec, storage: &str) -> Facts {
        Facts {
            driver: self.driver.clone(),
            isolation: self.isolation,
            accelerator: None,
            privilege: spec.privilege,
            storage: storage.to_owned(),
            disk_quota: self.disk_quota,
            limits: self.limits,
            address: None,
        }
    }

    /// Fails if the volumes of this one cannot be mounted, and says why.
    pub fn check_volumes(&self, spec: &Spec) -> Result<(), DriverError> {
        if !spec.volumes.is_empty() && !self.volumes {
            return Err(self.unsupported("mount volumes"));
        }
        let targets = spec.volumes.iter().map(|mount| mount.target.as_path());
        mounts::check(targets).map_err(DriverError::Unsupported)
    }

    /// The error for something this driver cannot do.
    pub fn unsupported(&self, what: &str) -> DriverError {
        DriverError::Unsupported(format!("driver {} cannot {what} here", self.driver))
    }
}
