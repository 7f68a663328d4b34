//! The driver: what it holds, and how the trait's methods find their sandbox.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::InspectContainerOptionsBuilder;
use parking_lot::Mutex;
use skerry_driver::{
    AgentLink, Capabilities, Driver, DriverError, Extent, Instance, Machine, Snapshot, Spec, Stats,
};
use skerry_sys::cgroup::Group;
use skerry_sys::{pidfd, watch};
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::unix::AsyncFd;

use crate::capabilities::capabilities;
use crate::create::Source;
use crate::images::Images;
use crate::link::Door;
use crate::options::Options;
use crate::record::{self, Records};

const NOT_FOUND: u16 = 404;
/// Not in the state that this asks for.
const CONFLICT: u16 = 409;
const SERVER_ERROR: u16 = 500;

/// The docker driver.
#[derive(Debug)]
pub struct DockerDriver {
    pub(crate) capabilities: Capabilities,
    pub(crate) api: Docker,
    pub(crate) images: Images,
    pub(crate) records: Records,
    pub(crate) storage_name: String,
    scope: String,
    pub(crate) live: Mutex<HashMap<SandboxId, Arc<Live>>>,
}

/// A sandbox that runs, as far as we know.
#[derive(Debug)]
pub(crate) struct Live {
    /// Readable once the agent is gone.
    pidfd: AsyncFd<OwnedFd>,
    group: Group,
    pub(crate) door: Door,
}

impl Live {
    /// `None`: it is gone already.
    pub(crate) fn new(pid: u32, door: Door) -> io::Result<Option<Self>> {
        let Some(pidfd) = pidfd::open(pid)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            group: Group::of_process(pid)?,
            pidfd: watch::readable(pidfd)?,
            door,
        }))
    }

    /// Returns once the agent, and with it every process of the sandbox, is gone.
    pub(crate) async fn gone(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(drop)
    }
}

impl DockerDriver {
    /// A driver over this engine, with what earlier daemons left in the records.
    pub fn new(options: Options) -> Result<Self, DriverError> {
        let engine = options.engine;
        let mut capabilities = capabilities(&Machine {
            root: !engine.rootless(),
            ..Machine::FULL
        });
        capabilities.notes.push(engine.name().to_owned());
        let records = record::open(&options.data_dir, options.agent);
        Ok(Self {
            capabilities,
            storage_name: engine.storage().to_owned(),
            images: Images::new(engine.api.clone(), &options.scope),
            api: engine.api,
            records: records.map_err(DriverError::step("open records"))?,
            scope: options.scope,
            live: Mutex::default(),
        })
    }

    /// What the engine calls a sandbox.
    pub(crate) fn container(&self, id: SandboxId) -> String {
        format!("skerry-{}-{}", self.scope, id.label())
    }

    /// What the engine knows of it; `None` if that is nothing.
    async fn look(
        &self,
        id: SandboxId,
        size: bool,
    ) -> Result<Option<ContainerInspectResponse>, DriverError> {
        let options = InspectContainerOptionsBuilder::new().size(size).build();
        match self
            .api
            .inspect_container(&self.container(id), Some(options))
            .await
        {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(DriverError::step("look at the container")(error)),
        }
    }

    pub(crate) async fn inspect(
        &self,
        id: SandboxId,
    ) -> Result<Option<ContainerInspectResponse>, DriverError> {
        self.look(id, false).await
    }

    pub(crate) async fn status(
        &self,
        id: SandboxId,
    ) -> Result<Option<ContainerStateStatusEnum>, DriverError> {
        Ok(self
            .inspect(id)
            .await?
            .and_then(|found| found.state?.status))
    }

    fn live(&self, id: SandboxId) -> Result<Arc<Live>, DriverError> {
        let live = self.live.lock().get(&id).cloned();
        live.ok_or(DriverError::NotRunning(id))
    }
}

#[async_trait]
impl Driver for DockerDriver {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError> {
        self.start(spec, Source::Layers).await
    }

    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError> {
        if !self.records.exists(parent) {
            return Err(DriverError::NotFound(parent));
        }
        self.start(spec, Source::Sandbox(parent)).await
    }

    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        let state = self.records.read(id);
        let Some(state) = state.map_err(DriverError::step("read the record"))? else {
            return Ok(None);
        };
        let Some(pid) = self.pid(id).await? else {
            return Ok(None);
        };
        if self.live(id).is_err() {
            let door = self.listen(id)?;
            self.remember(id, pid, door)?;
        }
        Ok(Some(Instance {
            facts: state.facts,
            steps: Vec::new(),
        }))
    }

    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError> {
        let live = self.live(id)?;
        let link = tokio::select! {
            link = live.door.connect() => link,
            _gone = live.gone() => return Err(DriverError::NotRunning(id)),
        };
        let link = link.map_err(DriverError::step("wait for the agent to dial"))?;
        Ok(Box::new(link))
    }

    async fn wait(&self, id: SandboxId) -> Result<(), DriverError> {
        match self.live(id) {
            Ok(live) => live
                .gone()
                .await
                .map_err(DriverError::step("wait for the container")),
            Err(_) if self.records.exists(id) => Ok(()),
            Err(_) => Err(DriverError::NotFound(id)),
        }
    }

    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError> {
        let live = self.live(id)?;
        let used = live.group.usage();
        let used = used.map_err(DriverError::step("read what it uses"))?;
        let written = self.look(id, true).await?.and_then(|found| found.size_rw);
        Ok(Stats {
            cpu_us: used.cpu_us,
            memory_bytes: used.memory_bytes,
            memory_peak_bytes: used.memory_peak_bytes,
            pids: used.pids,
            disk_bytes: written.unwrap_or_default().try_into().unwrap_or_default(),
            oom_kills: used.oom_kills,
        })
    }

    async fn pause(&self, id: SandboxId) -> Result<(), DriverError> {
        self.live(id)?;
        let paused = self.api.pause_container(&self.container(id)).await;
        paused.map_err(DriverError::step("pause the container"))
    }

    async fn resume(&self, id: SandboxId) -> Result<(), DriverError> {
        self.live(id)?;
        let resumed = self.api.unpause_container(&self.container(id)).await;
        resumed.map_err(DriverError::step("let the container go on"))
    }

    async fn snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        if extent == Extent::Memory {
            return Err(self.capabilities.unsupported("keep a snapshot with memory"));
        }
        let began = Instant::now();
        let name = self.images.of_snapshot(snapshot);
        self.commit(id, &name).await?;
        Ok(Snapshot {
            held: began.elapsed(),
            bytes: self.images.bytes(&name).await?,
            steps: Vec::new(),
        })
    }

    async fn restore(&self, from: SnapshotId, spec: &Spec) -> Result<Instance, DriverError> {
        let image = self.images.of_snapshot(from);
        if !self.images.exists(&image).await? {
            return Err(DriverError::NoSnapshot(from));
        }
        self.start(spec, Source::Image(image)).await
    }

    async fn remove_snapshot(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        self.images.remove(&self.images.of_snapshot(snapshot)).await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        self.images.snapshots().await
    }

    async fn kill(&self, id: SandboxId) -> Result<(), DriverError> {
        if !self.records.exists(id) {
            return Err(DriverError::NotFound(id));
        }
        self.stop(id).await
    }

    async fn destroy(&self, id: SandboxId) -> Result<(), DriverError> {
        self.remove(id).await
    }

    async fn list(&self) -> Result<Vec<SandboxId>, DriverError> {
        let listed = self.records.list();
        listed.map_err(DriverError::step("list what there is"))
    }

    async fn release(&self) -> Result<bool, DriverError> {
        if !self.list().await?.is_empty() {
            return Ok(false);
        }
        self.images.forget_layers().await.map(|()| true)
    }
}

/// There is no such thing.
pub(crate) fn is_missing(error: &ApiError) -> bool {
    status(error) == Some(NOT_FOUND)
}

/// It is not in a state in which that can be done; Podman says so with a server error.
pub(crate) fn is_refused(error: &ApiError) -> bool {
    matches!(status(error), Some(CONFLICT | SERVER_ERROR))
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
