//! Copies of sandboxes: snapshots, what is made from them, and forks.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use skerry_driver::{Capabilities, Driver, DriverError, Extent, Instance, Spec};
use skerry_proto::node::{
    CreateSandbox, ForkSandbox, MemoryWish, SandboxReport, SnapshotReport, Snapshots, TakeSnapshot,
};
use skerry_types::{Error, Result, SandboxId, SandboxState, SnapshotId};
use tokio::runtime::Handle;

use super::making::{Origin, Plan};
use super::order;
use crate::actor::{self, Command, Taken, not_running};
use crate::meta::Meta;
use crate::node::Node;
use crate::snapshots::Kept;
use crate::wake::wake;

#[async_trait]
impl Snapshots for Node {
    async fn take_snapshot(&self, request: TakeSnapshot) -> Result<SnapshotReport> {
        let handle = self.running(request.sandbox)?;
        let extent = extent(request.memory, handle.driver.capabilities())?;
        let taken = take(&handle, request.id, extent).await?;
        let kept = self.kept(&request, extent, taken);
        let kept = match kept
            .and_then(|kept| self.archive.keep(kept.clone(), &self.images).map(|()| kept))
        {
            Ok(kept) => kept,
            Err(error) => {
                discard(handle.driver.as_ref(), request.id).await;
                return Err(error);
            }
        };
        Ok(kept.report)
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotReport>> {
        let all = self.archive.all();
        Ok(all.iter().map(|kept| kept.report.clone()).collect())
    }

    async fn remove_snapshot(&self, id: SnapshotId) -> Result<()> {
        self.archive.forget(id)?;
        // Whichever made it, if one of them did: an earlier try may have come no further than the record.
        for driver in &self.drivers {
            driver.remove_snapshot(id).await?;
        }
        Ok(())
    }

    async fn roll_back(&self, sandbox: SandboxId, to: SnapshotId) -> Result<SandboxReport> {
        let handle = self.running(sandbox)?;
        let kept = self.archive.get(to)?;
        if kept.report.sandbox != sandbox {
            return Err(Error::not_found(format!(
                "snapshot {to} of sandbox {sandbox}"
            )));
        }
        handle.ask(|reply| Command::RollBack(kept, reply)).await
    }
}

impl Node {
    /// The way to a sandbox that runs.
    fn running(&self, id: SandboxId) -> Result<actor::Handle> {
        let handle = self.handle(id)?;
        let state = handle.shared.history.read().state;
        if state == SandboxState::Running {
            Ok(handle)
        } else {
            Err(not_running(id, state))
        }
    }

    fn kept(&self, request: &TakeSnapshot, extent: Extent, taken: Taken) -> Result<Kept> {
        let meta = self.meta_of(request.sandbox)?;
        Ok(Kept {
            report: SnapshotReport {
                id: request.id,
                sandbox: request.sandbox,
                image: meta.image.reference.clone(),
                driver: meta.driver.clone(),
                resources: meta.spec.resources,
                memory: extent == Extent::Memory,
                bytes: taken.snapshot.bytes,
                held_us: taken.snapshot.held.as_micros() as u64,
                created_at: Timestamp::now(),
            },
            meta,
            open: taken.open,
        })
    }

    fn meta_of(&self, id: SandboxId) -> Result<Meta> {
        Meta::load(&self.layout.meta(id))
            .map_err(|e| Error::internal(format!("cannot read meta.json: {e}")))
    }

    /// Makes a sandbox from a snapshot.
    pub(super) async fn create_from(
        &self,
        from: SnapshotId,
        request: &CreateSandbox,
    ) -> Result<SandboxReport> {
        let kept = self.archive.get(from)?;
        let driver = self.driver(Some(&kept.meta.driver))?;
        let memory = kept.report.memory;
        let mut meta = kept.meta.clone();
        meta.spec.id = request.id;
        meta.spec.hostname = order::hostname(request.id, request.name.as_deref());
        meta.spec.network = order::network(&request.network, driver.as_ref())?;
        if !memory {
            meta.spec.resources = request.resources;
        }
        meta.env.extend(request.env.clone());
        meta.forked_from = None;
        meta.auto_resume = request.auto_resume;
        let plan = Plan {
            id: request.id,
            driver: Arc::clone(&driver),
            image: self.images.hold(&meta.image)?,
            origin: Origin {
                snapshot: Some(from),
                memory,
                open: kept.open.clone(),
                ..Origin::default()
            },
            meta,
        };
        let spec = plan.meta.spec.clone();
        self.bring_up(plan, async move {
            restore(driver.as_ref(), from, &spec, memory).await
        })
        .await
    }

    /// Forks a running one, with its processes where that is wished and can be.
    pub(super) async fn fork_of(&self, request: &ForkSandbox) -> Result<SandboxReport> {
        let parent = self.running(request.parent)?;
        let driver = Arc::clone(&parent.driver);
        let capabilities = driver.capabilities();
        if !capabilities.file_fork {
            return Err(capabilities.unsupported("fork").into());
        }
        let extent = extent(request.memory, capabilities)?;
        let mut meta = self.meta_of(request.parent)?;
        meta.spec.id = request.id;
        meta.spec.hostname = order::hostname(request.id, request.name.as_deref());
        meta.env.extend(request.env.clone());
        meta.forked_from = Some(request.parent);
        let mut plan = Plan {
            id: request.id,
            driver: Arc::clone(&driver),
            image: self.images.hold(&meta.image)?,
            origin: Origin {
                forked_at_seq: Some(parent.shared.journal.last_seq()),
                ..Origin::default()
            },
            meta,
        };
        let spec = plan.meta.spec.clone();
        if extent == Extent::Files {
            let work = async move { driver.fork(parent.shared.place(), &spec).await };
            return self.bring_up(plan, work).await;
        }
        let carrier = Carrier {
            id: SnapshotId::new(),
            driver: Arc::clone(&driver),
        };
        let taken = take(&parent, carrier.id, extent).await?;
        plan.origin = Origin {
            forked_at_seq: Some(taken.at_seq),
            memory: true,
            open: taken.open,
            ..Origin::default()
        };
        let work = async move { restore(driver.as_ref(), carrier.id, &spec, true).await };
        self.bring_up(plan, work).await
    }
}

/// A snapshot that carries a fork over. It goes with this: when the fork is there, failed, took too long, or was never begun.
struct Carrier {
    id: SnapshotId,
    driver: Arc<dyn Driver>,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // Without a runtime the server has ended, and the next start sweeps it away.
        if let Ok(runtime) = Handle::try_current() {
            let (driver, id) = (Arc::clone(&self.driver), self.id);
            runtime.spawn(async move { discard(driver.as_ref(), id).await });
        }
    }
}

/// What is taken along: never less than was required, and what it was is on the record.
fn extent(wish: MemoryWish, capabilities: &Capabilities) -> Result<Extent> {
    match wish {
        MemoryWish::None => Ok(Extent::Files),
        _ if capabilities.memory_snapshot => Ok(Extent::Memory),
        MemoryWish::Auto => Ok(Extent::Files),
        MemoryWish::Required => Err(capabilities.unsupported("copy memory and processes").into()),
    }
}

async fn take(handle: &actor::Handle, id: SnapshotId, extent: Extent) -> Result<Taken> {
    let taken = handle
        .ask(|reply| Command::Snapshot(id, extent, reply))
        .await;
    if taken.is_err() {
        discard(handle.driver.as_ref(), id).await;
    }
    taken
}

/// Restores, and lets copied processes run once nothing of theirs is shared.
async fn restore(
    driver: &dyn Driver,
    from: SnapshotId,
    spec: &Spec,
    memory: bool,
) -> std::result::Result<Instance, DriverError> {
    let instance = driver.restore(from, spec).await?;
    if memory {
        wake(driver, spec).await?;
    }
    Ok(instance)
}

/// One that nobody was told of.
async fn discard(driver: &dyn Driver, id: SnapshotId) {
    if let Err(error) = driver.remove_snapshot(id).await {
        // The next start sweeps it away.
        tracing::error!(snapshot = %id, %error, "what is left of a snapshot could not be removed");
    }
}
