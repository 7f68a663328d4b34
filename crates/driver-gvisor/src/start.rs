//! Making a sandbox: its record, group, volume and network, then the launcher, which becomes `runsc`.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::sync::Arc;

use skerry_driver::{DriverError, Instance, NetworkMode, Rootfs, Spec, blocking};
use skerry_net::{Netns, NetworkKind};
use skerry_storage::{StorageError, Volume};
use skerry_sys::cgroup::{Frozen, Group, Limits};
use skerry_sys::idmap::RANGE;
use skerry_sys::pidfd::Identity;
use skerry_sys::watch;
use skerry_types::{SandboxId, SnapshotId};
use tokio::sync::OwnedMutexGuard;

use crate::bundle::{self, PROGRAM};
use crate::driver::GvisorDriver;
use crate::etc;
use crate::laps::Laps;
use crate::launch::MAX_TREES;
use crate::link::Exchange;
use crate::live::{Live, Now, Running};
use crate::record::{State, agent, remove_folder};
use crate::snapshots::volume_of;

const MIB: u64 = 1024 * 1024;
/// What the sentry and the gofer need beside what the sandbox has.
const KERNEL_BYTES: u64 = 96 * MIB;
/// Threads of the host for each of the sandbox's, and those of the sentry and the gofer themselves.
const THREADS_EACH: u64 = 4;
const KERNEL_THREADS: u64 = 256;
/// On disk uid 0 of a sandbox is 0, whatever range it has: so a fork has a range of its own and no file is touched.
const OWNER: (u32, u32) = (0, 0);

/// What the files of a new sandbox are.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// None.
    New,
    /// Those of another.
    Fork { parent: SandboxId },
    /// Those of a snapshot that has memory too.
    Memory {
        snapshot: SnapshotId,
        memory: Memory,
    },
}

/// Memory and processes that go on.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// What `runsc` wrote.
    pub(crate) image: PathBuf,
    /// The name of the agent's program that is among them.
    pub(crate) agent: String,
}

impl Source {
    fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Memory { memory, .. } => Some(memory),
            Self::New | Self::Fork { .. } => None,
        }
    }
}

impl GvisorDriver {
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
        let mut laps = Laps::start();
        let memory = source.memory();
        let agent = memory.map_or(&self.agent, |memory| &memory.agent);
        let mut state = State {
            sentry: None,
            first_id: self.ranges.take().map_err(DriverError::step("take ids"))?,
            on_disk: false,
            agent: agent.clone(),
            spec: spec.clone(),
            facts: self.capabilities.facts(spec, &self.storage_name),
        };
        self.record(&state)?;
        let volume = self.volume(spec, &source).await?;
        laps.lap("volume");
        let running = self.run(&mut state, &volume, memory, &mut laps).await?;
        let live = Live::new(Now::Runs(running));
        self.live.lock().insert(spec.id, live);
        Ok(Instance {
            facts: state.facts,
            steps: laps.end(),
        })
    }

    /// Starts it on its volume, from the beginning or where its memory was.
    pub(crate) async fn run(
        &self,
        state: &mut State,
        volume: &Volume,
        memory: Option<&Memory>,
        laps: &mut Laps,
    ) -> Result<Arc<Running>, DriverError> {
        let netns = self.netns(&state.spec).await?;
        laps.lap("netns");
        state.facts.address = netns.as_ref().and_then(|netns| netns.address);
        etc::write(volume, &state.spec, netns.as_ref())
            .map_err(DriverError::step("write the sandbox's own files"))?;
        let exchange = self.lay_out(state, netns.as_ref()).await?;
        laps.lap("files, cgroup");
        let needs = self.needs(state, volume, netns.as_ref());
        let image = memory.map(|memory| memory.image.as_path());
        self.launch(state.spec.id, image, needs).await?;
        laps.lap("runsc");
        let pidfd = self.find_sentry(state)?;
        self.record(state)?;
        let running = running(pidfd, exchange)?;
        tokio::select! {
            dialled = running.exchange.dialled() => dialled.map_err(DriverError::step("wait for the agent to dial"))?,
            _gone = running.gone() => return Err(DriverError::NotRunning(state.spec.id)),
        }
        laps.lap("agent");
        Ok(running)
    }

    pub(crate) fn record(&self, state: &State) -> Result<(), DriverError> {
        let written = self.records.write(state.spec.id, state);
        written.map_err(DriverError::step("write the record"))
    }

    async fn volume(&self, spec: &Spec, source: &Source) -> Result<Volume, DriverError> {
        let storage = Arc::clone(&self.storage);
        let (id, limit) = (spec.id, u64::from(spec.resources.disk_mb) * MIB);
        let parent = match *source {
            Source::New => {
                let made = move || storage.create(id, limit, OWNER);
                let made = tokio::task::spawn_blocking(made).await;
                return made
                    .map_err(DriverError::step("make the volume"))?
                    .map_err(storage_error("make the volume"));
            }
            Source::Fork { parent } => parent,
            Source::Memory { snapshot, .. } => volume_of(snapshot),
        };
        let Some(live) = self.live(parent) else {
            return self.copy_volume(parent, None, id, limit).await;
        };
        let turn = live.turn().await;
        let group = live.running().map(|_| (self.group(parent), turn));
        self.copy_volume(parent, group, id, limit).await
    }

    /// Copies a volume as it is at one instant: while nothing in this group runs, for which it has to be one's turn.
    pub(crate) async fn copy_volume(
        &self,
        parent: SandboxId,
        running: Option<(Group, OwnedMutexGuard<()>)>,
        id: SandboxId,
        limit: u64,
    ) -> Result<Volume, DriverError> {
        let storage = Arc::clone(&self.storage);
        let forked = tokio::task::spawn_blocking(move || {
            let (group, _turn) = running.unzip();
            let frozen = group.map(Frozen::new).transpose();
            let _thaw = frozen.map_err(DriverError::step("freeze the parent"))?;
            storage
                .fork(parent, id, limit, OWNER)
                .map_err(storage_error("fork the volume"))
        });
        forked.await.map_err(DriverError::step("fork the volume"))?
    }

    async fn netns(&self, spec: &Spec) -> Result<Option<Netns>, DriverError> {
        // Without a network `runsc` makes one that is empty.
        let Some(network) = (self.network.as_ref()).filter(|_| spec.network == NetworkMode::Nat)
        else {
            return Ok(None);
        };
        let netns = network.acquire(NetworkKind::Nat, spec.id).await;
        netns.map(Some).map_err(DriverError::step("get a network"))
    }

    /// Everything that `runsc` will look for.
    async fn lay_out(&self, state: &State, netns: Option<&Netns>) -> Result<Exchange, DriverError> {
        let spec = &state.spec;
        let text = bundle::describe(spec, state.first_id, netns.is_some()).to_string();
        let (folder, agent, group) = (
            self.folder(spec.id),
            agent(&self.records, &state.agent),
            self.group(spec.id),
        );
        let limits = Limits {
            memory_bytes: memory_bytes(spec) + KERNEL_BYTES,
            cpu_milli: u64::from(spec.resources.vcpus) * 1000,
            pids: u64::from(spec.resources.pids) * THREADS_EACH + KERNEL_THREADS,
        };
        // Nobody inside has the range's last id, and only the agent may look into folders of others.
        let keeper = Some(state.first_id + RANGE - 1);
        blocking("lay out what runsc needs", move || {
            // One that was paused has them, and `runsc` would know it still.
            for made in [folder.bundle(), folder.root(), folder.inside()] {
                remove_folder(&made)?;
                fs::create_dir(made)?;
            }
            fs::write(folder.bundle().join("config.json"), text)?;
            fs::hard_link(agent, folder.inside().join(PROGRAM))?;
            fs::set_permissions(folder.inside(), fs::Permissions::from_mode(0o700))?;
            chown(folder.inside(), keeper, keeper)?;
            group.create(limits)
        })
        .await?;
        self.listen(spec.id, state.first_id)
    }

    pub(crate) fn listen(&self, id: SandboxId, first_id: u32) -> Result<Exchange, DriverError> {
        let inside = self.folder(id).inside();
        Exchange::open(inside, first_id).map_err(DriverError::step("listen for the agent"))
    }

    fn find_sentry(&self, state: &mut State) -> Result<OwnedFd, DriverError> {
        let id = state.spec.id;
        let failed = || DriverError::step("find the sentry");
        let text = fs::read_to_string(self.folder(id).pid_file()).map_err(failed())?;
        let pid = text
            .trim()
            .parse()
            .map_err(DriverError::step("find the sentry"))?;
        let identity = Identity::of(pid).map_err(failed())?;
        state.sentry = Some(identity);
        let pidfd = identity.open().map_err(failed())?;
        pidfd.ok_or(DriverError::NotRunning(id))
    }
}

pub(crate) fn running(pidfd: OwnedFd, exchange: Exchange) -> Result<Arc<Running>, DriverError> {
    let pidfd = watch::readable(pidfd).map_err(DriverError::step("watch the sentry"))?;
    Ok(Arc::new(Running { pidfd, exchange }))
}

/// The memory that its programs may use.
pub(crate) fn memory_bytes(spec: &Spec) -> u64 {
    u64::from(spec.resources.memory_mb) * MIB
}

pub(crate) fn storage_error(step: &'static str) -> impl FnOnce(StorageError) -> DriverError {
    move |error| match error {
        StorageError::DiskFull { .. } => DriverError::DiskFull(error.to_string()),
        StorageError::PoolClosed { .. } => DriverError::Unavailable(error.to_string()),
        StorageError::Missing(id) => DriverError::NotFound(id),
        error => DriverError::step(step)(error),
    }
}
