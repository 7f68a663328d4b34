//! Copies of sandboxes: snapshots, what is made from them, and forks.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use skerry_driver::{Capabilities, Driver, DriverError, Extent, Isolation};
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
use crate::pool::{Frozen, Ready};
use crate::publish::Doors;
use crate::snapshots::{InUse, Kept};
use crate::wake::restore;

#[async_trait]
impl Snapshots for Node {
    async fn take_snapshot(&self, request: TakeSnapshot) -> Result<SnapshotReport> {
        let handle = self.running(request.sandbox)?;
        let extent = extent(request.memory, handle.driver.capabilities())?;
        let taken = take(&handle, request.id, extent).await?;
        let kept = kept(&request, extent, taken);
        let report = kept.report.clone();
        if let Err(error) = self.archive.keep(kept, &self.images) {
            discard(handle.driver.as_ref(), request.id).await;
            return Err(error);
        }
        Ok(report)
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotReport>> {
        let all = self.archive.all();
        Ok(all.iter().map(|kept| kept.report.clone()).collect())
    }

    async fn remove_snapshot(&self, id: SnapshotId) -> Result<()> {
        let _nobody_uses_it = self.archive.retire(id).await?;
        self.pool.forget(id).await;
        // Whichever made it, if one of them did: an earlier try may have come no further than the record.
        for driver in &self.drivers {
            driver.remove_snapshot(id).await?;
        }
        self.archive.forget(id);
        Ok(())
    }

    async fn roll_back(&self, sandbox: SandboxId, to: SnapshotId) -> Result<SandboxReport> {
        let handle = self.handle(sandbox)?;
        let kept = self.own_snapshot(sandbox, to)?;
        let start = kept.meta.start.clone().filter(|_| !kept.report.memory);
        let report = handle.ask(|reply| Command::RollBack(kept, reply)).await?;
        if let Some(start) = start {
            self.start_program(sandbox, &start).await?;
        }
        Ok(report)
    }
}

impl Node {
    /// A snapshot of this sandbox.
    fn own_snapshot(&self, sandbox: SandboxId, id: SnapshotId) -> Result<InUse> {
        let kept = self.archive.take(id)?;
        if kept.report.sandbox != sandbox {
            let text = format!("snapshot {id} of sandbox {sandbox}");
            return Err(Error::not_found(text));
        }
        Ok(kept)
    }

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

    pub(super) fn meta_of(&self, id: SandboxId) -> Result<Meta> {
        Meta::recall(&self.layout, id)
            .map_err(|e| Error::internal(format!("cannot read meta.json: {e}")))?
            .ok_or_else(|| DriverError::NotFound(id).into())
    }

    /// Makes a sandbox from a snapshot.
    pub(super) async fn create_from(
        &self,
        from: SnapshotId,
        request: &CreateSandbox,
    ) -> Result<SandboxReport> {
        let kept = self.archive.take(from)?;
        let driver = self.driver(Some(&kept.meta.driver))?;
        let memory = kept.report.memory;
        let mut meta = kept
            .meta
            .clone()
            .copy(request.id, request.name.as_deref(), memory);
        meta.spec.volumes = self.shelf.mounts(&request.volumes)?;
        meta.spec.network = order::network(&request.network, driver.as_ref())?;
        if !memory {
            meta.spec.resources = request.resources;
        }
        meta.env.extend(request.env.clone());
        meta.forked_from = None;
        meta.auto_resume = request.auto_resume;
        meta.egress = request.egress.clone();
        let origin = Origin {
            snapshot: Some(from),
            ..Origin::default()
        };
        let doors = self.publisher.take(&request.ports)?;
        meta.published = doors.published();
        let frozen = Frozen { id: from, memory };
        // A host name of its own, and volumes, must be there from the start.
        let ready = match request.name {
            None if request.volumes.is_empty() => {
                self.pool.take(&order::kind(&meta, &driver, Some(frozen)))
            }
            _ => None,
        };
        self.make_of(kept, meta, origin, ready, doors).await
    }

    /// Forks a snapshot of the parent.
    async fn fork_from(&self, base: SnapshotId, request: &ForkSandbox) -> Result<SandboxReport> {
        let kept = self.own_snapshot(request.parent, base)?;
        let meta = of_fork(kept.meta.clone(), request, kept.report.memory);
        let origin = Origin {
            forked_at_seq: Some(kept.at_seq),
            ..Origin::default()
        };
        let none = self.publisher.doors(&[]);
        self.make_of(kept, meta, origin, None, none).await
    }

    /// Makes a sandbox of a snapshot, which stays there until that is done, or lets the one that stands ready be it.
    async fn make_of(
        &self,
        kept: InUse,
        mut meta: Meta,
        origin: Origin,
        ready: Option<Ready>,
        doors: Doors,
    ) -> Result<SandboxReport> {
        let id = meta.spec.id;
        let driver = self.driver(Some(&kept.meta.driver))?;
        let place = if let Some(ready) = &ready {
            meta.spec = ready.spec().clone();
            None
        } else if kept.report.memory {
            None
        } else {
            self.place_of(&driver, &mut meta)
        };
        let plan = Plan {
            id,
            driver: Arc::clone(&driver),
            image: self.images.hold(&meta.image)?,
            origin: Origin {
                memory: kept.report.memory,
                open: kept.open.clone(),
                ..origin
            },
            doors,
            place,
            meta,
        };
        let spec = plan.meta.spec.clone();
        let work = async move {
            let (from, memory) = (kept.report.id, kept.report.memory);
            if let Some(ready) = ready
                && let Some(instance) = ready.hand_out().await?
            {
                return Ok(instance);
            }
            restore(driver.as_ref(), from, &spec, memory).await
        };
        self.bring_up(plan, work).await
    }

    /// Forks a running one, with its processes where that is wished and can be.
    pub(super) async fn fork_of(&self, request: &ForkSandbox) -> Result<SandboxReport> {
        if let Some(base) = request.base {
            return self.fork_from(base, request).await;
        }
        let parent = self.running(request.parent)?;
        let driver = Arc::clone(&parent.driver);
        let capabilities = driver.capabilities();
        if !capabilities.file_fork {
            return Err(capabilities.unsupported("fork").into());
        }
        if extent(request.memory, capabilities)? == Extent::Memory {
            return self.fork_memory(&parent, request).await;
        }
        let mut meta = of_fork(self.meta_of(request.parent)?, request, false);
        let place = self.place_of(&driver, &mut meta);
        let plan = Plan {
            id: request.id,
            driver: Arc::clone(&driver),
            image: self.images.hold(&meta.image)?,
            origin: Origin {
                forked_at_seq: Some(parent.shared.journal.last_seq()),
                ..Origin::default()
            },
            doors: self.publisher.doors(&[]),
            place,
            meta,
        };
        let spec = plan.meta.spec.clone();
        let work = async move { driver.fork(parent.shared.place(), &spec).await };
        self.bring_up(plan, work).await
    }

    async fn fork_memory(
        &self,
        parent: &actor::Handle,
        request: &ForkSandbox,
    ) -> Result<SandboxReport> {
        let driver = Arc::clone(&parent.driver);
        let carrier = Carrier {
            id: SnapshotId::new(),
            driver: Arc::clone(&driver),
        };
        let taken = take(parent, carrier.id, Extent::Memory).await?;
        let meta = of_fork(taken.meta, request, true);
        let plan = Plan {
            id: request.id,
            driver: Arc::clone(&driver),
            image: self.images.hold(&meta.image)?,
            origin: Origin {
                forked_at_seq: Some(taken.at_seq),
                memory: true,
                open: taken.open,
                ..Origin::default()
            },
            doors: self.publisher.doors(&[]),
            place: None,
            meta,
        };
        let spec = plan.meta.spec.clone();
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

fn kept(request: &TakeSnapshot, extent: Extent, taken: Taken) -> Kept {
    let mut meta = taken.meta;
    if let Some(defaults) = &request.defaults {
        meta.env.clone_from(&defaults.env);
        meta.user.clone_from(&defaults.user);
        meta.start.clone_from(&defaults.start);
        meta.image.config.workdir.clone_from(&defaults.workdir);
    }
    Kept {
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
        at_seq: taken.at_seq,
    }
}

/// What a fork is, from what its parent was.
fn of_fork(parent: Meta, request: &ForkSandbox, memory: bool) -> Meta {
    let mut meta = parent.copy(request.id, request.name.as_deref(), memory);
    meta.env.extend(request.env.clone());
    meta.egress = request.egress.clone();
    meta.forked_from = Some(request.parent);
    meta
}

/// What is taken along: never less than was required, and what it was is on the record.
fn extent(wish: MemoryWish, capabilities: &Capabilities) -> Result<Extent> {
    match wish {
        MemoryWish::None => Ok(Extent::Files),
        // Files of a sandbox on the host's kernel fork in a hundredth of the time, and CRIU does not keep everything.
        MemoryWish::Auto if capabilities.isolation == Isolation::Namespace => Ok(Extent::Files),
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

/// One that nobody was told of.
async fn discard(driver: &dyn Driver, id: SnapshotId) {
    if let Err(error) = driver.remove_snapshot(id).await {
        // The next start sweeps it away.
        tracing::error!(snapshot = %id, %error, "what is left of a snapshot could not be removed");
    }
}
