//! Making a sandbox: its record, group, volume and network side by side, then one request to the spawner.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use skerry_driver::{DriverError, Instance, NetworkMode, Privilege, Rootfs, Spec, Step};
use skerry_net::{Netns, NetworkKind};
use skerry_storage::{StorageError, Volume};
use skerry_sys::cgroup::{Door, Frozen, Group, Limits};
use skerry_sys::idmap::Ids;
use skerry_sys::pidfd::Identity;
use skerry_sys::watch;
use skerry_types::{SandboxId, SnapshotId};

use crate::driver::{Live, NsDriver, blocking, facts};
use crate::record::{Agent, State};
use crate::snapshots::volume_of;
use crate::spawner::{DoorKind, Fds, MAX_TREES, Request, SpawnError, Started};

const MIB: u64 = 1024 * 1024;
/// Up to this many unwritten bytes a snapshot writes out itself, within milliseconds.
const MANY_DIRTY_BYTES: u64 = 4 * MIB;

/// What the files of a new sandbox are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// None.
    New,
    /// Those of another.
    Fork {
        parent: SandboxId,
        /// It does not run, or not now: there is nothing to freeze.
        paused: bool,
    },
    /// Those of a snapshot, and it goes on with the processes that were kept with them.
    Memory(SnapshotId),
}

/// What is ready before the spawner is asked.
struct Ground {
    listener: OwnedFd,
    door: Option<Door>,
    volume: Volume,
    netns: Option<Netns>,
    first_id: Option<u32>,
}

impl NsDriver {
    /// Makes a sandbox with its agent started; takes everything away again if that fails.
    pub(crate) async fn start(&self, spec: &Spec, source: Source) -> Result<Instance, DriverError> {
        self.check(spec)?;
        let begun = self.records.begin(spec.id);
        begun.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => DriverError::Exists(spec.id),
            _ => DriverError::step("begin the record")(error),
        })?;
        let made = self.make(spec, source).await;
        if made.is_err()
            && let Err(error) = self.remove(spec.id).await
        {
            tracing::warn!(id = %spec.id, %error, "a sandbox that could not be made left something; it is listed");
        }
        made
    }

    fn check(&self, spec: &Spec) -> Result<(), DriverError> {
        if spec.privilege == Privilege::Root && !self.capabilities.level_root {
            return Err(self.capabilities.unsupported("give level root"));
        }
        if spec.network == NetworkMode::Nat && !self.capabilities.nat {
            return Err(self.capabilities.unsupported("give network nat"));
        }
        self.capabilities.check_volumes(spec)?;
        let Rootfs { layers, binds } = &spec.rootfs;
        if layers.len() + binds.len() + spec.volumes.len() > MAX_TREES {
            let text = format!("layers, binds and volumes may be {MAX_TREES} together, not more");
            return Err(DriverError::Unsupported(text));
        }
        Ok(())
    }

    async fn make(&self, spec: &Spec, source: Source) -> Result<Instance, DriverError> {
        let began = Instant::now();
        let mut steps = Vec::new();
        let ground = self.prepare(spec, source, &mut steps).await?;
        let mut state = State {
            agent: None,
            first_id: ground.first_id,
            program: self.program_of(source)?,
            paused: false,
            facts: facts(
                self,
                spec,
                ground.netns.as_ref().and_then(|net| net.address),
            ),
        };
        let before = Instant::now();
        let (request, fds) = self.request(spec, ground)?;
        let started = match source {
            Source::Memory(from) => self.wake(from, request, fds).await?,
            _ => self.spawn(spec.id, &request, Arc::new(fds)).await?,
        };
        steps.push(step("spawner", before.elapsed()));
        steps.extend(
            started
                .steps
                .into_iter()
                .map(|lap| step(&format!("· {}", lap.name), lap.took)),
        );
        let before = Instant::now();
        let identity = Identity::of(started.pid).map_err(DriverError::step("look at the agent"))?;
        state.agent = Some(Agent {
            pid: identity.pid,
            started: identity.started,
        });
        self.records
            .write(spec.id, &state)
            .map_err(DriverError::step("write the record"))?;
        self.remember(spec.id, started.pidfd)?;
        steps.push(step("record", before.elapsed()));
        steps.push(step("total", began.elapsed()));
        Ok(Instance {
            facts: state.facts,
            steps,
        })
    }

    /// Everything that does not need the other things first.
    async fn prepare(
        &self,
        spec: &Spec,
        source: Source,
        steps: &mut Vec<Step>,
    ) -> Result<Ground, DriverError> {
        let first_id = self.take_ids()?;
        // All are waited for, so that none still makes something while a failure is cleaned up.
        let (door, listener, volume, netns) = tokio::join!(
            timed("cgroup", self.door(spec)),
            timed("record, socket", self.listen(spec, first_id)),
            timed("volume", self.volume(spec, source)),
            timed("netns", self.netns(spec)),
        );
        Ok(Ground {
            door: noted(door, steps)?,
            listener: noted(listener, steps)?,
            volume: noted(volume, steps)?,
            netns: noted(netns, steps)?,
            first_id,
        })
    }

    /// A range of ids that no other sandbox of this node has, where there is more than one; `None` if there is a single id.
    fn take_ids(&self) -> Result<Option<u32>, DriverError> {
        match self.ids {
            Ids::One => Ok(None),
            Ids::Range { first } => Ok(Some(first)),
            Ids::All => {
                let taken = self.ranges.take();
                taken.map(Some).map_err(DriverError::step("take ids"))
            }
        }
    }

    /// The way into the control group.
    async fn door(&self, spec: &Spec) -> Result<Option<Door>, DriverError> {
        let Some(group) = self.group(spec.id) else {
            return Ok(None);
        };
        let limits = Limits {
            memory_bytes: u64::from(spec.resources.memory_mb) * MIB,
            cpu_milli: u64::from(spec.resources.vcpus) * 1000,
            pids: u64::from(spec.resources.pids),
        };
        blocking("make the control group", move || {
            group.create(limits)?;
            group.door().map(Some)
        })
        .await
    }

    /// The agent's socket. Writes down the ids first: they are taken until the record ends.
    async fn listen(&self, spec: &Spec, first_id: Option<u32>) -> Result<OwnedFd, DriverError> {
        let (id, records) = (spec.id, self.records.clone());
        let state = State {
            agent: None,
            first_id,
            program: None,
            paused: false,
            facts: facts(self, spec, None),
        };
        let has_home = self.memory.is_some();
        blocking("write the record and make the socket", move || {
            records.write(id, &state)?;
            if has_home {
                records.make_home(id)?;
            }
            records.listen(id)
        })
        .await
    }

    async fn volume(&self, spec: &Spec, source: Source) -> Result<Volume, DriverError> {
        let storage = Arc::clone(&self.storage);
        let (id, limit) = (spec.id, u64::from(spec.resources.disk_mb) * MIB);
        let owner = self.root_on_disk();
        let (parent, paused) = match source {
            Source::New => (None, false),
            Source::Fork { parent, paused } => (Some(parent), paused),
            Source::Memory(from) => (Some(volume_of(from)), true),
        };
        let Some(parent) = parent else {
            let made = tokio::task::spawn_blocking(move || storage.create(id, limit, owner)).await;
            return made
                .map_err(DriverError::step("make the volume"))?
                .map_err(storage_error("make the volume"));
        };
        self.copy_volume(parent, paused, id, limit).await
    }

    /// A volume with what another holds at one instant.
    pub(crate) async fn copy_volume(
        &self,
        parent: SandboxId,
        paused: bool,
        id: SandboxId,
        limit: u64,
    ) -> Result<Volume, DriverError> {
        let (storage, owner) = (Arc::clone(&self.storage), self.root_on_disk());
        let group = self.group(parent).filter(|_| !paused);
        let live = self.live(parent);
        let forked = tokio::task::spawn_blocking(move || {
            // Writing out waits for everybody's files, so it is done only where it makes the freeze shorter.
            let dirty = group.as_ref().map(Group::dirty_bytes).transpose();
            let dirty = dirty.map_err(DriverError::step("look at what the parent wrote"))?;
            if dirty.is_some_and(|bytes| bytes > MANY_DIRTY_BYTES) {
                storage
                    .settle(parent)
                    .map_err(storage_error("settle the parent's volume"))?;
            }
            let _only_one = live.as_ref().map(|live| live.freezing.lock());
            // One that is paused by now stays so.
            let running = group.filter(|group| !group.is_frozen().is_ok_and(|frozen| frozen));
            let frozen = running.map(Frozen::new).transpose();
            let _thaw = frozen.map_err(DriverError::step("freeze the parent"))?;
            storage
                .fork(parent, id, limit, owner)
                .map_err(storage_error("fork the volume"))
        });
        forked.await.map_err(DriverError::step("fork the volume"))?
    }

    /// On disk uid 0 of a sandbox is 0, whatever range it has: so a fork has a range of its own and no file is touched.
    fn root_on_disk(&self) -> (u32, u32) {
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        self.ids.on_disk(0).map_or(own, |id| (id, id))
    }

    async fn netns(&self, spec: &Spec) -> Result<Option<Netns>, DriverError> {
        let kind = match spec.network {
            NetworkMode::None => NetworkKind::None,
            NetworkMode::Nat => NetworkKind::Nat,
        };
        let Some(network) = &self.network else {
            return Ok(None);
        };
        let netns = network.acquire(kind, spec.id).await;
        netns.map(Some).map_err(DriverError::step("get a network"))
    }

    fn request(&self, spec: &Spec, ground: Ground) -> Result<(Request, Fds), DriverError> {
        let share = || DriverError::step("share a descriptor");
        let owner = self.network.as_ref().and_then(|network| network.userns());
        let owner = owner.filter(|_| ground.netns.is_some());
        let request = Request {
            label: spec.id.label(),
            hostname: spec.hostname.clone(),
            privilege: spec.privilege,
            first_id: ground.first_id,
            shows_ids: self.ids == Ids::All,
            layers: spec.rootfs.layers.clone(),
            volume: ground.volume.path().to_owned(),
            binds: spec.rootfs.binds.clone(),
            shared: spec.volumes.clone(),
            home: self.memory.as_ref().map(|_| self.records.home(spec.id)),
            files: files(spec, ground.netns.as_ref()),
            shm_bytes: u64::from(spec.resources.memory_mb) * MIB / 2,
            max_processes: self
                .cgroups
                .is_none()
                .then_some(u64::from(spec.resources.pids)),
            has_netns: ground.netns.is_some(),
            has_net_owner: owner.is_some(),
            door: ground.door.as_ref().map(|door| match door {
                Door::Tasks(_) => DoorKind::Tasks,
                Door::Folder(_) => DoorKind::Folder,
            }),
        };
        let fds = Fds {
            agent: self.agent.try_clone().map_err(share())?,
            listener: Some(ground.listener),
            netns: ground.netns.map(|netns| netns.fd),
            net_owner: owner.map(OwnedFd::try_clone).transpose().map_err(share())?,
            door: ground.door,
        };
        Ok((request, fds))
    }

    /// Asks the spawner; once more, after cleaning up, if it died over it.
    async fn spawn(
        &self,
        id: SandboxId,
        request: &Request,
        fds: Arc<Fds>,
    ) -> Result<Started, DriverError> {
        match self.client.spawn(request, Arc::clone(&fds)).await {
            Err(SpawnError::Lost(error)) => {
                tracing::warn!(%id, %error, "the spawner died over a request, which is made again");
                self.kill_processes(id).await?;
                self.client.spawn(request, fds).await.map_err(spawn_error)
            }
            done => done.map_err(spawn_error),
        }
    }

    pub(crate) fn remember(&self, id: SandboxId, pidfd: OwnedFd) -> Result<(), DriverError> {
        let pidfd = watch::readable(pidfd).map_err(DriverError::step("watch the agent"))?;
        let live = Live {
            pidfd,
            freezing: Mutex::default(),
        };
        self.live.lock().insert(id, Arc::new(live));
        Ok(())
    }
}

/// The files that differ from sandbox to sandbox.
fn files(spec: &Spec, netns: Option<&Netns>) -> Vec<(String, String)> {
    let files = skerry_net::etc(spec.id, &spec.hostname, netns).into_iter();
    files
        .map(|(name, content)| (format!("/etc/{name}"), content))
        .collect()
}

async fn timed<T, E>(name: &str, work: impl Future<Output = Result<T, E>>) -> Result<(T, Step), E> {
    let began = Instant::now();
    let done = work.await?;
    Ok((done, step(name, began.elapsed())))
}

/// What came of it; how long it took goes among the steps.
fn noted<T, E>(done: Result<(T, Step), E>, steps: &mut Vec<Step>) -> Result<T, E> {
    let (made, took) = done?;
    steps.push(took);
    Ok(made)
}

fn step(name: &str, took: Duration) -> Step {
    Step {
        name: name.to_owned(),
        took,
    }
}

fn spawn_error(error: SpawnError) -> DriverError {
    match error {
        SpawnError::Failed(failure) if failure.is_disk_full() => {
            DriverError::DiskFull(failure.to_string())
        }
        error => DriverError::step("start the sandbox")(error),
    }
}

pub(crate) fn storage_error(step: &'static str) -> impl FnOnce(StorageError) -> DriverError {
    move |error| match error {
        StorageError::DiskFull { .. } => DriverError::DiskFull(error.to_string()),
        StorageError::PoolClosed { .. } => DriverError::Unavailable(error.to_string()),
        StorageError::Missing(id) => DriverError::NotFound(id),
        error => DriverError::step(step)(error),
    }
}
