//! Making a sandbox: a site and a volume side by side, then one request that makes the site's first process its agent.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use skerry_driver::{DriverError, Instance, Privilege, Rootfs, Spec, Step};
use skerry_net::Netns;
use skerry_storage::{StorageError, Volume};
use skerry_sys::cgroup::{Frozen, Group, Limits};
use skerry_sys::idmap::Ids;
use skerry_sys::pidfd::Identity;
use skerry_sys::watch;
use skerry_types::{SandboxId, SnapshotId};

use crate::driver::{Live, NsDriver, blocking, facts};
use crate::record::State;
use crate::site::Site;
use crate::snapshots::volume_of;
use crate::spawner::{
    Blank, Failure, Lap, MAX_TREES, Request, SpawnError, Started, Trees, users_of,
};

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

impl NsDriver {
    /// Makes a sandbox with its agent started; takes everything away again if that fails.
    pub(crate) async fn start(&self, spec: &Spec, source: Source) -> Result<Instance, DriverError> {
        let site = self.sites.lock().remove(&spec.id);
        if site.is_none() {
            self.begin(spec.id)?;
        }
        let made = self.make(spec, source, site).await;
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
        self.capabilities.check_volumes(spec)?;
        let Rootfs { layers, binds } = &spec.rootfs;
        if layers.len() + binds.len() + spec.volumes.len() > MAX_TREES {
            let text = format!("layers, binds and volumes may be {MAX_TREES} together, not more");
            return Err(DriverError::Unsupported(text));
        }
        Ok(())
    }

    async fn make(
        &self,
        spec: &Spec,
        source: Source,
        site: Option<Site>,
    ) -> Result<Instance, DriverError> {
        self.check(spec)?;
        let began = Instant::now();
        // Both are waited for, so that neither still makes something while a failure is cleaned up.
        let (volume, site) = tokio::join!(
            timed("volume", self.volume(spec, source)),
            self.settle(spec, source, site),
        );
        let (site, mut steps) = site?;
        let volume = noted(volume, &mut steps)?;
        let facts = facts(self, spec, site.address());
        let before = Instant::now();
        let started = self.begin_life(spec, source, site, &volume).await?;
        steps.push(step("agent", before.elapsed()));
        steps.extend(inner(started.steps));
        self.remember(spec.id, started.pidfd)?;
        steps.push(step("total", began.elapsed()));
        Ok(Instance { facts, steps })
    }

    /// Has a site, the one that is there or a new one, ready for this sandbox: within its limits and on record.
    async fn settle(
        &self,
        spec: &Spec,
        source: Source,
        site: Option<Site>,
    ) -> Result<(Site, Vec<Step>), DriverError> {
        let mut steps = Vec::new();
        let mut site = match site {
            Some(site) => site.fit_for(spec.network)?,
            None => self.lay_site(spec.id, spec.network, &mut steps).await?,
        };
        let wakes_up = matches!(source, Source::Memory(_));
        let agent = if wakes_up {
            site.blank = None;
            None
        } else {
            Some(self.man(spec.id, &mut site, &mut steps).await?)
        };
        let limits = Limits {
            memory_bytes: u64::from(spec.resources.memory_mb) * MIB,
            cpu_milli: u64::from(spec.resources.vcpus) * 1000,
            pids: u64::from(spec.resources.pids),
        };
        let (id, records, group) = (spec.id, self.records.clone(), self.group(spec.id));
        let state = self.state_of(spec, source, &site)?;
        let settled = blocking("set its limits and write the record", move || {
            if wakes_up {
                // Its agent listens in its home. A link to this socket would be reset as soon as nobody has it.
                records.unlisten(id)?;
            }
            group.map_or(Ok(()), |group| group.limit(limits))?;
            let agent = agent.map(Identity::of).transpose()?;
            records.write(id, &State { agent, ..state })
        });
        let ((), took) = timed("limits, record", settled).await?;
        steps.push(took);
        Ok((site, steps))
    }

    /// What is to be remembered of it, but for its agent.
    fn state_of(&self, spec: &Spec, source: Source, site: &Site) -> Result<State, DriverError> {
        Ok(State {
            agent: None,
            first_id: site.bounds.first_id,
            program: self.program_of(source)?,
            paused: false,
            facts: Some(facts(self, spec, site.address())),
        })
    }

    /// Starts its agent, or has its copied processes wake up.
    async fn begin_life(
        &self,
        spec: &Spec,
        source: Source,
        mut site: Site,
        volume: &Volume,
    ) -> Result<Started, DriverError> {
        let request = self.request(spec, &site, volume);
        let Source::Memory(from) = source else {
            let blank = site.blank.take().ok_or(DriverError::NotRunning(spec.id))?;
            return self.enliven(blank, request, &site).await;
        };
        let started = self.wake(from, site.bounds, request, &site.fds).await?;
        let agent = Identity::of(started.pid).map_err(DriverError::step("look at the agent"))?;
        let state = State {
            agent: Some(agent),
            ..self.state_of(spec, source, &site)?
        };
        let written = self.records.write(spec.id, &state);
        written.map_err(DriverError::step("write the record"))?;
        Ok(started)
    }

    /// Makes a blank process the agent that is asked for.
    async fn enliven(
        &self,
        blank: Blank,
        request: Request,
        site: &Site,
    ) -> Result<Started, DriverError> {
        let request = Arc::new(request);
        let trees = match site.bounds.first_id {
            Some(_) => self.trees(blank.pid, Arc::clone(&request)).await?,
            // Without privilege only the child, in its own mount namespace, may copy mounts.
            None => Vec::new(),
        };
        let own = [&self.agent, &site.listener].into_iter().chain(&trees);
        let fds: Vec<_> = own.map(AsFd::as_fd).collect();
        let started = blank.become_agent(&request, &fds).await;
        started.map_err(|failure| spawn_error(failure.into()))
    }

    /// The mounts of a sandbox, shown with the ids of this process where they differ.
    async fn trees(&self, of: u32, request: Arc<Request>) -> Result<Vec<OwnedFd>, DriverError> {
        let collected = tokio::task::spawn_blocking(move || {
            let users = request.shows_ids.then(|| users_of(of)).transpose()?;
            let trees = Trees::collect(&request, users.as_ref().map(AsFd::as_fd))?;
            Ok(trees.into_fds())
        });
        let collected = collected.await.map_err(DriverError::step("copy mounts"))?;
        collected.map_err(|failure: Failure| spawn_error(failure.into()))
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

    fn request(&self, spec: &Spec, site: &Site, volume: &Volume) -> Request {
        Request {
            label: spec.id.label(),
            hostname: spec.hostname.clone(),
            privilege: spec.privilege,
            shows_ids: self.ids == Ids::All,
            layers: spec.rootfs.layers.clone(),
            volume: volume.path().to_owned(),
            binds: spec.rootfs.binds.clone(),
            shared: spec.volumes.clone(),
            home: self.memory.as_ref().map(|_| self.records.home(spec.id)),
            files: files(spec, site.netns.as_ref()),
            shm_bytes: u64::from(spec.resources.memory_mb) * MIB / 2,
            max_processes: self
                .cgroups
                .is_none()
                .then_some(u64::from(spec.resources.pids)),
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

pub(crate) async fn timed<T, E>(
    name: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<(T, Step), E> {
    let began = Instant::now();
    let done = work.await?;
    Ok((done, step(name, began.elapsed())))
}

/// What came of it; how long it took goes among the steps.
pub(crate) fn noted<T, E>(done: Result<(T, Step), E>, steps: &mut Vec<Step>) -> Result<T, E> {
    let (made, took) = done?;
    steps.push(took);
    Ok(made)
}

/// Steps within a step.
pub(crate) fn inner(laps: Vec<Lap>) -> impl Iterator<Item = Step> {
    laps.into_iter()
        .map(|lap| step(&format!("· {}", lap.name), lap.took))
}

fn step(name: &str, took: Duration) -> Step {
    Step {
        name: name.to_owned(),
        took,
    }
}

pub(crate) fn spawn_error(error: SpawnError) -> DriverError {
    match error {
        SpawnError::Failed(failure) if failure.is_disk_full() => {
            DriverError::DiskFull(failure.to_string())
        }
        SpawnError::Failed(failure) if failure.is_no_folder() => DriverError::no_folder(failure),
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
