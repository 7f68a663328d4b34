//! The driver: what it holds, and how the trait's methods find their sandbox.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
pub(crate) use skerry_driver::blocking;
use skerry_driver::{
    AgentLink, Capabilities, Driver, DriverError, Extent, Facts, Instance, Machine, NetworkMode,
    Snapshot, Spec, Stats,
};
use skerry_net::Network;
use skerry_storage::Storage;
use skerry_sys::cgroup::{Cgroups, Frozen, Group};
use skerry_sys::idmap::Ids;
use skerry_sys::memfd;
use skerry_sys::ranges::Ranges;
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::unix::AsyncFd;

use crate::capabilities::capabilities;
use crate::memory::{Memories, Memory};
use crate::options::Options;
use crate::processes;
use crate::record::{Records, State};
use crate::site::Site;
use crate::snapshots::{Marks, volume_of};
use crate::spawner::Client;
use crate::start::{Source, storage_error};

const ONE_ID_NOTE: &str =
    "programs run as one user, who is uid 0 inside, and there is no level root";
const SHARED_RANGE_NOTE: &str =
    "all sandboxes have the same range of ids, and are kept apart by their namespaces";

/// The namespace driver.
#[derive(Debug)]
pub struct NsDriver {
    pub(crate) capabilities: Capabilities,
    pub(crate) storage: Arc<Storage>,
    pub(crate) storage_name: String,
    pub(crate) network: Option<Network>,
    /// `None`: no limits here.
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) records: Records,
    pub(crate) marks: Marks,
    pub(crate) memories: Memories,
    /// `None`: no memory is kept here.
    pub(crate) memory: Option<Memory>,
    /// What serves an order of its own.
    pub(crate) helper: Vec<OsString>,
    pub(crate) client: Client,
    pub(crate) agent: OwnedFd,
    /// What this process has to give.
    pub(crate) ids: Ids,
    pub(crate) ranges: Ranges,
    pub(crate) live: Mutex<HashMap<SandboxId, Arc<Live>>>,
    /// Prepared, and nobody's yet.
    pub(crate) sites: Mutex<HashMap<SandboxId, Site>>,
}

/// A sandbox whose agent runs, as far as we know.
#[derive(Debug)]
pub(crate) struct Live {
    /// Readable once the agent is gone.
    pub(crate) pidfd: AsyncFd<OwnedFd>,
    /// Held by whoever freezes it or thaws it again: two at once would undo each other.
    pub(crate) freezing: Mutex<()>,
}

impl NsDriver {
    /// Looks at the machine, starts the spawner and reads what earlier daemons left in the records.
    pub async fn new(options: Options) -> Result<Self, DriverError> {
        let ids = Ids::own().map_err(DriverError::step("look at its own ids"))?;
        // Files of sandboxes lie below with owners and set-uid bits as they are inside.
        fs::set_permissions(&options.data_dir, Permissions::from_mode(0o700))
            .map_err(DriverError::step("close the data folder to others"))?;
        let storage = options
            .storage
            .facts()
            .map_err(DriverError::step("look at the storage"))?;
        let records = Records::open(&storage.path).map_err(DriverError::step("open records"))?;
        let marks = options.storage.own_folder("ns-snapshots");
        let marks = Marks::new(marks.map_err(DriverError::step("open the snapshots"))?);
        let taken = ids_in_use(&records).map_err(DriverError::step("read records"))?;
        let mut notes = Vec::new();
        let cgroups = Cgroups::open(&options.cgroup_parent)
            .map_err(|error| notes.push(format!("no memory, CPU and process limits: {error}")))
            .ok();
        let nat = Network::has_nat(options.network.as_ref(), &mut notes).await;
        let nat = nat.map_err(DriverError::step("ask the network gateway"))?;
        notes.extend(id_note(ids, options.why_one_id));
        notes.extend(storage.why_not_better.clone());
        let mut capabilities = capabilities(&Machine {
            root: ids == Ids::All,
            ids: ids != Ids::One,
            cgroups: cgroups.is_some(),
            sharing: storage.constant_time_fork,
            quota: storage.disk_quota,
            nat,
            criu: options.criu.is_some(),
        });
        let tool = options.criu.filter(|_| capabilities.memory_snapshot);
        capabilities.notes.extend(notes);
        let memories = Memories::open(&options.storage, &marks)?;
        let (memory, agent) = match tool {
            Some(tool) => {
                let memory = Memory::new(tool, &memories, options.agent)?;
                let agent = memories.agent(&memory.agent);
                (Some(memory), agent)
            }
            None => (None, memfd::sealed_program("skerry-agent", options.agent)),
        };
        Ok(Self {
            capabilities,
            storage: options.storage,
            storage_name: storage.tier.as_str().to_owned(),
            network: options.network,
            cgroups,
            records,
            marks,
            memories,
            memory,
            helper: options.spawner_command.clone(),
            client: Client::start(options.spawner_command)
                .map_err(DriverError::step("start the spawner"))?,
            agent: agent.map_err(DriverError::step("load the agent"))?,
            ids,
            ranges: Ranges::new(options.first_id, taken),
            live: Mutex::default(),
            sites: Mutex::default(),
        })
    }

    pub(crate) fn live(&self, id: SandboxId) -> Option<Arc<Live>> {
        self.live.lock().get(&id).cloned()
    }

    /// The control group of a sandbox, where there are any.
    pub(crate) fn group(&self, id: SandboxId) -> Option<Group> {
        Some(self.cgroups.as_ref()?.group(&id.label()))
    }

    /// Nothing writes to its volume now. Fails if nothing here could read that.
    fn stands_still(&self, id: SandboxId) -> Result<bool, DriverError> {
        let state = self.state(id)?;
        if state.first_id.is_some() != (self.ids != Ids::One) {
            let text = "its files have owners of another range of ids than this server's";
            return Err(DriverError::Unsupported(text.to_owned()));
        }
        Ok(state.paused || self.live(id).is_none())
    }

    pub(crate) fn state(&self, id: SandboxId) -> Result<State, DriverError> {
        self.records
            .read(id)
            .map_err(DriverError::step("read the record"))?
            .ok_or(DriverError::NotFound(id))
    }

    /// Freezes or thaws, and remembers which.
    async fn set_paused(&self, id: SandboxId, paused: bool) -> Result<(), DriverError> {
        let Some(group) = self.group(id) else {
            return Err(self.capabilities.unsupported("pause"));
        };
        let mut state = self.state(id)?;
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        state.paused = paused;
        let records = self.records.clone();
        blocking("freeze or thaw the control group", move || {
            let _only_one = live.freezing.lock();
            // In either order a crash in between leaves one that the next adoption thaws.
            if paused {
                let frozen = Frozen::new(group)?;
                records.write(id, &state)?;
                frozen.keep();
                return Ok(());
            }
            records.write(id, &state)?;
            group.thaw()
        })
        .await
    }
}

#[async_trait]
impl Driver for NsDriver {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn prepare(&self, id: SandboxId, network: NetworkMode) -> Result<bool, DriverError> {
        self.prepare_site(id, network).await.map(|()| true)
    }

    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError> {
        self.start(spec, Source::New).await
    }

    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError> {
        let paused = self.stands_still(parent)?;
        self.start(spec, Source::Fork { parent, paused }).await
    }

    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        let Some(state) = self
            .records
            .read(id)
            .map_err(DriverError::step("read the record"))?
        else {
            return Ok(None);
        };
        let (Some(agent), Some(facts)) = (state.agent, state.facts) else {
            return Ok(None);
        };
        let found = agent.open().map_err(DriverError::step("find the agent"))?;
        let Some(pidfd) = found else {
            return Ok(None);
        };
        if let (Some(group), false) = (self.group(id), state.paused) {
            // A daemon that died while it forked this one left it frozen.
            group
                .thaw()
                .map_err(DriverError::step("thaw the control group"))?;
        }
        self.remember(id, pidfd)?;
        self.free_if_dead(id).await?;
        Ok(Some(Instance {
            facts,
            steps: Vec::new(),
        }))
    }

    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError> {
        let stream = self.dial(id).await;
        stream.map(|stream| Box::new(stream) as AgentLink)
    }

    async fn wait(&self, id: SandboxId) -> Result<(), DriverError> {
        match self.live(id) {
            Some(live) => live
                .gone()
                .await
                .map_err(DriverError::step("wait for the agent")),
            None if self.records.exists(id) => Ok(()),
            None => Err(DriverError::NotFound(id)),
        }
    }

    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError> {
        self.live(id).ok_or(DriverError::NotRunning(id))?;
        let storage = Arc::clone(&self.storage);
        let group = self.group(id);
        blocking("read what it uses", move || {
            let used = group
                .map(|group| group.usage())
                .transpose()?
                .unwrap_or_default();
            Ok(Stats {
                cpu_us: used.cpu_us,
                memory_bytes: used.memory_bytes,
                memory_peak_bytes: used.memory_peak_bytes,
                pids: used.pids,
                disk_bytes: storage.usage(id).map_err(io::Error::other)?,
                oom_kills: used.oom_kills,
            })
        })
        .await
    }

    async fn oom_kills(&self, id: SandboxId) -> Result<u64, DriverError> {
        self.live(id).ok_or(DriverError::NotRunning(id))?;
        let kills = self.group(id).map(|group| group.oom_kills()).transpose();
        Ok(kills
            .map_err(DriverError::step("count kills for lack of memory"))?
            .unwrap_or_default())
    }

    async fn pause(&self, id: SandboxId) -> Result<(), DriverError> {
        self.set_paused(id, true).await
    }

    async fn resume(&self, id: SandboxId) -> Result<(), DriverError> {
        let agent = self.state(id)?.agent.ok_or(DriverError::NotRunning(id))?;
        let killed =
            processes::is_killed(agent.pid).map_err(DriverError::step("look at the agent"))?;
        self.set_paused(id, false).await?;
        if killed {
            return Err(DriverError::NotRunning(id));
        }
        Ok(())
    }

    async fn snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        if extent == Extent::Memory {
            return self.keep_memory(id, snapshot).await;
        }
        let paused = self.stands_still(id)?;
        self.keep_files(id, snapshot, paused).await
    }

    async fn restore(&self, from: SnapshotId, spec: &Spec) -> Result<Instance, DriverError> {
        let parent = volume_of(from);
        if self.storage.get(parent).is_none() {
            return Err(DriverError::NoSnapshot(from));
        }
        if self.has_memory(from, spec)? {
            return self.start(spec, Source::Memory(from)).await;
        }
        let paused = true;
        self.start(spec, Source::Fork { parent, paused }).await
    }

    async fn remove_snapshot(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        self.remove_kept(snapshot).await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        let marks = self.marks.clone();
        blocking("list snapshots", move || marks.list()).await
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
        self.everything().await
    }

    async fn check(&self) -> Result<(), DriverError> {
        const STEP: &str = "look at the storage";
        let storage = Arc::clone(&self.storage);
        let checked = tokio::task::spawn_blocking(move || storage.check()).await;
        checked
            .map_err(DriverError::step(STEP))?
            .map_err(storage_error(STEP))
    }

    async fn release(&self) -> Result<bool, DriverError> {
        if !self.list().await?.is_empty() {
            return Ok(false);
        }
        let cgroups = self.cgroups.clone().map_or(Ok(()), Cgroups::close);
        cgroups.map_err(DriverError::step("remove the node's control group"))?;
        Ok(true)
    }
}

impl Live {
    /// Returns once the agent, and with it every process of the sandbox, is gone.
    pub(crate) async fn gone(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(drop)
    }
}

/// Facts go on the record as the driver sees them now.
pub(crate) fn facts(driver: &NsDriver, spec: &Spec, address: Option<std::net::Ipv4Addr>) -> Facts {
    Facts {
        address,
        ..driver.capabilities.facts(spec, &driver.storage_name)
    }
}

fn id_note(ids: Ids, why_one_id: Option<String>) -> Option<String> {
    match (ids, why_one_id) {
        (Ids::All, _) => None,
        (Ids::Range { .. }, _) => Some(SHARED_RANGE_NOTE.to_owned()),
        (Ids::One, None) => Some(ONE_ID_NOTE.to_owned()),
        (Ids::One, Some(why)) => Some(format!("{ONE_ID_NOTE}: {why}")),
    }
}

fn ids_in_use(records: &Records) -> io::Result<BTreeSet<u32>> {
    let mut used = BTreeSet::new();
    for id in records.list()? {
        used.extend(records.read(id)?.and_then(|state| state.first_id));
    }
    Ok(used)
}
