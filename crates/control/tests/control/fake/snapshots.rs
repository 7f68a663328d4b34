//! Snapshots of the fake: what was taken is there, and nothing more is known of it.

use async_trait::async_trait;
use skerry_control::Clock;
use skerry_proto::node::{MemoryWish, SandboxReport, SnapshotReport, Snapshots, TakeSnapshot};
use skerry_types::{Error, Resources, Result, SandboxId, SandboxState, SnapshotId};

use super::{FakeNode, Fault};

#[async_trait]
impl Snapshots for FakeNode {
    async fn take_snapshot(&self, request: TakeSnapshot) -> Result<SnapshotReport> {
        self.reach()?;
        if self.has(Fault::ForkFails) {
            return Err(Error::internal("the snapshot failed"));
        }
        let report = SnapshotReport {
            id: request.id,
            sandbox: request.sandbox,
            image: "base".to_owned(),
            driver: "sim".to_owned(),
            resources: Resources::FREE_FORM,
            memory: request.memory == MemoryWish::Required,
            bytes: 4096,
            held_us: 10,
            created_at: self.clock.now(),
        };
        let mut world = self.world.lock();
        world.snapshots.insert(request.id, report.clone());
        if let Some(given) = request.defaults {
            world.given.insert(request.id, given);
        }
        Ok(report)
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotReport>> {
        self.reach()?;
        let there = {
            let mut world = self.world.lock();
            world.snapshot_lists += 1;
            world.snapshots.values().cloned().collect()
        };
        self.passes(Fault::SnapshotListIsLate).await;
        Ok(there)
    }

    async fn remove_snapshot(&self, id: SnapshotId) -> Result<()> {
        self.reach()?;
        self.world.lock().snapshots.remove(&id);
        Ok(())
    }

    async fn roll_back(&self, sandbox: SandboxId, _: SnapshotId) -> Result<SandboxReport> {
        self.reach()?;
        self.change(sandbox, |report| report.state = SandboxState::Running)
    }
}
