//! What a way to isolate must offer: the driver trait, its capabilities, and the conformance suite that every driver passes; and the records that most keep.
//!
//! A driver gives a place to run with an agent inside; exec, sessions, files and the journal are written once, in `node`, over the agent's link.
//! Invariant: a driver never knows another driver, and differs from another only in what [`Capabilities`] declares.
#![warn(missing_docs)]

mod blocking;
mod capabilities;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod records;
mod spec;

use std::fmt;
use std::future::ready;
use std::pin::Pin;

use async_trait::async_trait;
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::{AsyncRead, AsyncWrite};

pub use blocking::blocking;
pub use capabilities::{Capabilities, Isolation, Machine};
pub use error::DriverError;
pub use records::Records;
pub use spec::{
    Accelerator, Bind, Extent, Facts, Instance, NetworkMode, Privilege, Rootfs, Snapshot, Spec,
    Stats, Step, VolumeMount,
};

/// A byte stream to an agent.
pub trait Link: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// A boxed [`Link`].
pub type AgentLink = Box<dyn Link>;

/// The rest of a snapshot, for which its sandbox need not stand still.
pub type Rest = Pin<Box<dyn Future<Output = Result<Snapshot, DriverError>> + Send>>;

/// A way to isolate sandboxes on this machine.
///
/// Every method is safe to call again after it failed or the daemon died: `destroy` takes away whatever any half-done step left, and
/// [`Driver::list`] names everything that any step may have left.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// What this driver can do on this machine.
    fn capabilities(&self) -> &Capabilities;

    /// Makes ahead what every sandbox with this network needs, whichever it becomes. [`Driver::create`], [`Driver::fork`] and
    /// [`Driver::restore`] under this id go on from there; [`Driver::destroy`] takes it away. `false`: there is nothing to make ahead. On error nothing of it is left.
    async fn prepare(&self, _id: SandboxId, _network: NetworkMode) -> Result<bool, DriverError> {
        Ok(false)
    }

    /// Makes a sandbox with its agent started. On error nothing of it is left.
    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError>;

    /// Makes a sandbox with the files that `parent` has at one instant. The parent runs on, or was killed: its files are there until it is destroyed.
    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError>;

    /// Takes up a sandbox that an earlier daemon made. `None`: its agent does not run (any more); its files may still be there.
    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError>;

    /// A new byte stream to the sandbox's agent; an earlier one ends.
    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError>;

    /// Returns once the sandbox's agent, and with it every process of the sandbox, is gone.
    async fn wait(&self, id: SandboxId) -> Result<(), DriverError>;

    /// What it uses now; of one that ended by itself what it used until then, as long as it is not killed.
    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError>;

    /// [`Stats::oom_kills`] alone: every first exec asks for it.
    async fn oom_kills(&self, id: SandboxId) -> Result<u64, DriverError> {
        Ok(self.stats(id).await?.oom_kills)
    }

    /// Stops all its processes. With [`Capabilities::pause_to_disk`] they and their memory go to disk: the link ends, nothing but files is used, and
    /// a restart of the machine does not matter. To [`Driver::wait`] and [`Driver::adopt`] it lives on.
    async fn pause(&self, _id: SandboxId) -> Result<(), DriverError> {
        Err(self.capabilities().unsupported("pause"))
    }

    /// Lets them run again; from disk, as after [`Driver::restore`].
    async fn resume(&self, _id: SandboxId) -> Result<(), DriverError> {
        Err(self.capabilities().unsupported("resume"))
    }

    /// Keeps what the sandbox has at one instant. It runs on. With [`Extent::Memory`] whoever calls has had the agent hold the processes.
    async fn snapshot(
        &self,
        _id: SandboxId,
        _snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        Err(self.capabilities().unsupported(extent.snapshot_name()))
    }

    /// [`Driver::snapshot`] in two steps: the sandbox may go on when this returns, and what it returns is to be waited for.
    async fn take_snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Rest, DriverError> {
        let made = self.snapshot(id, snapshot, extent).await?;
        Ok(Box::pin(ready(Ok(made))))
    }

    /// Makes a sandbox from a snapshot; any number of times, also at once. Processes that were held are held until the agent releases them.
    async fn restore(&self, _from: SnapshotId, _spec: &Spec) -> Result<Instance, DriverError> {
        Err(self.capabilities().unsupported("restore a snapshot"))
    }

    /// Removes a snapshot. Sandboxes that were made from it live on. One that is not there is fine.
    async fn remove_snapshot(&self, _snapshot: SnapshotId) -> Result<(), DriverError> {
        Ok(())
    }

    /// Every snapshot of which anything is on the host.
    async fn list_snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        Ok(Vec::new())
    }

    /// Kills every process at once and gives back all but the files.
    async fn kill(&self, id: SandboxId) -> Result<(), DriverError>;

    /// Kills it and removes everything of it from the host. One that is not there is fine.
    async fn destroy(&self, id: SandboxId) -> Result<(), DriverError>;

    /// Every sandbox of which anything is on the host.
    async fn list(&self) -> Result<Vec<SandboxId>, DriverError>;

    /// Fails while the host has no room for another sandbox, or none that can be written, and says why.
    async fn check(&self) -> Result<(), DriverError> {
        Ok(())
    }

    /// Gives back what it holds on the host beside sandboxes, as far as it holds anything. `false`: there are sandboxes, and it holds on.
    async fn release(&self) -> Result<bool, DriverError> {
        Ok(self.list().await?.is_empty())
    }
}
