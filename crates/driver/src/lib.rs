//! What a way to isolate must offer: the driver trait, its capabilities, and the conformance suite that every driver passes.
//!
//! A driver gives a place to run with an agent inside; exec, sessions, files and the journal are written once, in `node`, over the agent's link.
//! Invariant: a driver never knows another driver, and differs from another only in what [`Capabilities`] declares.
#![warn(missing_docs)]

mod capabilities;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod spec;

use std::fmt;

use async_trait::async_trait;
use skerry_types::SandboxId;
use tokio::io::{AsyncRead, AsyncWrite};

pub use capabilities::{Capabilities, Isolation};
pub use error::DriverError;
pub use spec::{Bind, Facts, Instance, NetworkMode, Privilege, Rootfs, Spec, Stats, Step};

/// A byte stream to an agent.
pub trait Link: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// A boxed [`Link`].
pub type AgentLink = Box<dyn Link>;

/// A way to isolate sandboxes on this machine.
///
/// Every method is safe to call again after it failed or the daemon died: `destroy` takes away whatever any half-done step left, and
/// [`Driver::list`] names everything that any step may have left.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// What this driver can do on this machine.
    fn capabilities(&self) -> &Capabilities;

    /// Makes a sandbox with its agent started. On error nothing of it is left.
    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError>;

    /// Makes a sandbox with the files that `parent` has at one instant. The parent runs on.
    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError>;

    /// Takes up a sandbox that an earlier daemon made. `None`: its agent does not run (any more); its files may still be there.
    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError>;

    /// A new byte stream to the sandbox's agent; an earlier one ends.
    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError>;

    /// Returns once the sandbox's agent, and with it every process of the sandbox, is gone.
    async fn wait(&self, id: SandboxId) -> Result<(), DriverError>;

    /// What it uses now.
    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError>;

    /// Freezes all its processes.
    async fn pause(&self, _id: SandboxId) -> Result<(), DriverError> {
        Err(self.capabilities().unsupported("pause"))
    }

    /// Thaws them.
    async fn resume(&self, _id: SandboxId) -> Result<(), DriverError> {
        Err(self.capabilities().unsupported("resume"))
    }

    /// Kills every process at once and gives back all but the files.
    async fn kill(&self, id: SandboxId) -> Result<(), DriverError>;

    /// Kills it and removes everything of it from the host. One that is not there is fine.
    async fn destroy(&self, id: SandboxId) -> Result<(), DriverError>;

    /// Every sandbox of which anything is on the host.
    async fn list(&self) -> Result<Vec<SandboxId>, DriverError>;
}
