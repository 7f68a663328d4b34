//! The driver: what it holds, and how the trait's methods find their sandbox.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use skerry_driver::{
    AgentLink, Capabilities, Driver, DriverError, Extent, Instance, Machine, Snapshot, Spec, Stats,
    blocking,
};
use skerry_net::Network;
use skerry_storage::Storage;
use skerry_sys::cgroup::{Cgroups, Group};
use skerry_sys::idmap::Ids;
use skerry_sys::ranges::Ranges;
use skerry_types::{SandboxId, SnapshotId};
use tokio::sync::Semaphore;

use crate::call::RESTORES;
use crate::capabilities::capabilities;
use crate::live::Live;
use crate::options::Options;
use crate::record::{Folder, Records, State, keep_agent};
use crate::snapshots::Snapshots;
use crate::start::{Source, storage_error};
use crate::tool::Tool;

/// The state of `runsc` has a socket in it, whose address has room for so much.
const MAX_DATA_DIR_BYTES: usize = 50;

/// The gvisor driver.
#[derive(Debug)]
pub struct GvisorDriver {
    pub(crate) capabilities: Capabilities,
    pub(crate) tool: Tool,
    pub(crate) launcher_command: Vec<OsString>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) storage_name: String,
    pub(crate) network: Option<Network>,
    pub(crate) cgroups: Cgroups,
    pub(crate) cgroup_parent: String,
    pub(crate) records: Records,
    pub(crate) snapshots: Snapshots,
    /// A place for each restore under way.
    pub(crate) restores: Semaphore,
    /// The name of the agent's program, which is there once for all sandboxes.
    pub(crate) agent: String,
    pub(crate) ranges: Ranges,
    pub(crate) live: Mutex<HashMap<SandboxId, Arc<Live>>>,
}

impl GvisorDriver {
    /// Looks at the machine and reads what earlier daemons left in the records.
    ///
    /// [`DriverError::Unsupported`] says what is missing here: it needs root and control groups.
    pub async fn new(options: Options) -> Result<Self, DriverError> {
        if Ids::own().map_err(DriverError::step("look at its own ids"))? != Ids::All {
            return Err(missing(
                "needs the machine's root, to map users and enter networks",
            ));
        }
        if options.data_dir.as_os_str().len() > MAX_DATA_DIR_BYTES {
            let text = format!(
                "needs a data folder whose path is no longer than {MAX_DATA_DIR_BYTES} bytes"
            );
            return Err(missing(&text));
        }
        let cgroups = Cgroups::open(&options.cgroup_parent)
            .map_err(|error| missing(&format!("needs control groups: {error}")))?;
        // Files of sandboxes lie below with owners and set-uid bits as they are inside.
        fs::set_permissions(&options.data_dir, Permissions::from_mode(0o700))
            .map_err(DriverError::step("close the data folder to others"))?;
        let records = Records::open(options.data_dir.join("gvisor"));
        let records = records.map_err(DriverError::step("open records"))?;
        let taken = ids_in_use(&records).map_err(DriverError::step("read records"))?;
        let agent = keep_agent(&records, options.agent);
        let agent = agent.map_err(DriverError::step("keep the agent"))?;
        let snapshots = Snapshots::open(&options.storage)?;
        let storage = options
            .storage
            .facts()
            .map_err(DriverError::step("look at the storage"))?;
        let mut notes = vec![format!(
            "runsc {} on {}",
            options.tool.version(),
            options.tool.platform()
        )];
        let nat = Network::has_nat(options.network.as_ref(), &mut notes).await;
        let nat = nat.map_err(DriverError::step("ask the network gateway"))?;
        notes.extend(storage.why_not_better.clone());
        let mut capabilities = capabilities(&Machine {
            sharing: storage.constant_time_fork,
            quota: storage.disk_quota,
            nat,
            ..Machine::FULL
        });
        capabilities.notes.extend(notes);
        Ok(Self {
            capabilities,
            tool: options.tool,
            launcher_command: options.launcher_command,
            storage: options.storage,
            storage_name: storage.tier.as_str().to_owned(),
            network: options.network,
            cgroups,
            cgroup_parent: options.cgroup_parent,
            records,
            snapshots,
            restores: Semaphore::new(RESTORES),
            agent,
            ranges: Ranges::new(options.first_id, taken),
            live: Mutex::default(),
        })
    }

    pub(crate) fn live(&self, id: SandboxId) -> Option<Arc<Live>> {
        self.live.lock().get(&id).cloned()
    }

    pub(crate) fn folder(&self, id: SandboxId) -> Folder {
        Folder::of(&self.records, id)
    }

    /// The control group of a sandbox.
    pub(crate) fn group(&self, id: SandboxId) -> Group {
        self.cgroups.group(&id.label())
    }

    pub(crate) fn state(&self, id: SandboxId) -> Result<State, DriverError> {
        self.records
            .read(id)
            .map_err(DriverError::step("read the record"))?
            .ok_or(DriverError::NotFound(id))
    }
}

#[async_trait]
impl Driver for GvisorDriver {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError> {
        self.start(spec, Source::New).await
    }

    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError> {
        self.state(parent)?;
        self.start(spec, Source::Fork { parent }).await
    }

    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        self.take_up(id).await
    }

    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError> {
        let running = self.live(id).and_then(|live| live.running());
        let running = running.ok_or(DriverError::NotRunning(id))?;
        let link = tokio::select! {
            biased;
            _gone = running.gone() => return Err(DriverError::NotRunning(id)),
            link = running.exchange.connect() => link,
        };
        Ok(Box::new(link.map_err(DriverError::step(
            "wait for the agent to dial",
        ))?))
    }

    async fn wait(&self, id: SandboxId) -> Result<(), DriverError> {
        match self.live(id) {
            Some(live) => live
                .gone()
                .await
                .map_err(DriverError::step("wait for the sentry")),
            None if self.records.exists(id) => Ok(()),
            None => Err(DriverError::NotFound(id)),
        }
    }

    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError> {
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let storage = Arc::clone(&self.storage);
        let group = live.running().map(|_| self.group(id));
        blocking("read what it uses", move || {
            let used = group.map(|group| group.usage()).transpose()?;
            let used = used.unwrap_or_default();
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

    async fn pause(&self, id: SandboxId) -> Result<(), DriverError> {
        self.to_disk(id).await
    }

    async fn resume(&self, id: SandboxId) -> Result<(), DriverError> {
        self.wake(id).await
    }

    async fn snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        self.keep(id, snapshot, extent).await
    }

    async fn restore(&self, from: SnapshotId, spec: &Spec) -> Result<Instance, DriverError> {
        self.start(spec, self.source_of(from, spec)?).await
    }

    async fn remove_snapshot(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        self.forget(snapshot).await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        let snapshots = self.snapshots.clone();
        blocking("list snapshots", move || snapshots.list()).await
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
        let records = self.records.clone();
        blocking("list what there is", move || records.list()).await
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
        let closed = self.cgroups.clone().close();
        closed.map_err(DriverError::step("remove the driver's control group"))?;
        Ok(true)
    }
}

fn missing(what: &str) -> DriverError {
    DriverError::Unsupported(format!("driver gvisor {what}"))
}

fn ids_in_use(records: &Records) -> io::Result<BTreeSet<u32>> {
    let mut used = BTreeSet::new();
    for id in records.list()? {
        used.extend(records.read(id)?.map(|state| state.first_id));
    }
    Ok(used)
}
