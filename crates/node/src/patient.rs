//! A driver that always comes to an end: whatever hangs below it is given up, and can be asked again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skerry_driver::{
    AgentLink, Capabilities, Driver, DriverError, Extent, Instance, NetworkMode, Rest, Snapshot,
    Spec, Stats,
};
use skerry_types::{SandboxId, SnapshotId};
use tokio::time::timeout;

/// To look at what is there.
const LOOK: Duration = Duration::from_secs(30);
/// To take something away, or to let it stand still or go on: memory may have to go to disk, or to come back.
const STEP: Duration = Duration::from_mins(3);
/// To make something, or to copy all that a sandbox has.
const COPY: Duration = Duration::from_mins(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Patient(pub(crate) Arc<dyn Driver>);

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, DriverError> {
    let ended = timeout(limit, call).await;
    ended.unwrap_or_else(|_| Err(DriverError::TooSlow(limit.as_secs())))
}

#[async_trait]
impl Driver for Patient {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    async fn prepare(&self, id: SandboxId, network: NetworkMode) -> Result<bool, DriverError> {
        within(STEP, self.0.prepare(id, network)).await
    }

    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError> {
        within(COPY, self.0.create(spec)).await
    }

    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError> {
        within(COPY, self.0.fork(parent, spec)).await
    }

    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        within(LOOK, self.0.adopt(id)).await
    }

    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError> {
        within(LOOK, self.0.connect(id)).await
    }

    /// As long as the sandbox lives.
    async fn wait(&self, id: SandboxId) -> Result<(), DriverError> {
        self.0.wait(id).await
    }

    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError> {
        within(LOOK, self.0.stats(id)).await
    }

    async fn oom_kills(&self, id: SandboxId) -> Result<u64, DriverError> {
        within(LOOK, self.0.oom_kills(id)).await
    }

    async fn pause(&self, id: SandboxId) -> Result<(), DriverError> {
        within(STEP, self.0.pause(id)).await
    }

    async fn resume(&self, id: SandboxId) -> Result<(), DriverError> {
        within(STEP, self.0.resume(id)).await
    }

    async fn snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        within(COPY, self.0.snapshot(id, snapshot, extent)).await
    }

    async fn take_snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Rest, DriverError> {
        let rest = within(COPY, self.0.take_snapshot(id, snapshot, extent)).await?;
        Ok(Box::pin(within(COPY, rest)))
    }

    async fn restore(&self, from: SnapshotId, spec: &Spec) -> Result<Instance, DriverError> {
        within(COPY, self.0.restore(from, spec)).await
    }

    async fn remove_snapshot(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        within(STEP, self.0.remove_snapshot(snapshot)).await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        within(LOOK, self.0.list_snapshots()).await
    }

    async fn kill(&self, id: SandboxId) -> Result<(), DriverError> {
        within(STEP, self.0.kill(id)).await
    }

    async fn destroy(&self, id: SandboxId) -> Result<(), DriverError> {
        within(STEP, self.0.destroy(id)).await
    }

    async fn list(&self) -> Result<Vec<SandboxId>, DriverError> {
        within(LOOK, self.0.list()).await
    }

    async fn check(&self) -> Result<(), DriverError> {
        within(LOOK, self.0.check()).await
    }

    async fn release(&self) -> Result<bool, DriverError> {
        within(STEP, self.0.release()).await
    }
}
