//! The driver: what it holds, and how the trait's methods find their sandbox.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skerry_driver::{
    Accelerator, AgentLink, Capabilities, Driver, DriverError, Extent, Instance, Machine, Rest,
    Snapshot, Spec, Stats,
};
use skerry_net::Network;
use skerry_proto::guest::{Call, Reply, Stats as AskStats};
use skerry_storage::{Storage, Tier};
use skerry_sys::cgroup::{Cgroups, Group};
use skerry_sys::ranges::Ranges;
use skerry_types::{SandboxId, SnapshotId};
use tokio::sync::{OnceCell, Semaphore};

use crate::accelerator::choose;
use crate::capabilities::capabilities;
use crate::control;
use crate::create::Source;
use crate::engine::Engine;
use crate::error::{at, blocking};
use crate::layout::{DISK, Layout};
use crate::live::{Live, Now};
use crate::options::Options;
use crate::process::Starting;
use crate::record::{Place, Records, State};
use crate::room::{Lives, watch};
use crate::snapshot::settle_later;
use crate::template::Turns;

/// A guest that does not say what it uses within this time is busy or does not want to.
const STATS_PATIENCE: Duration = Duration::from_secs(10);
/// Snapshots of which [`FAR_AHEAD`](crate::memory::FAR_AHEAD) may wait in memory for being written; of others it is little.
const FAR_AHEAD_AT_ONCE: usize = 4;

/// The vm driver.
#[derive(Debug)]
pub struct VmDriver {
    pub(crate) capabilities: Capabilities,
    /// Keeps the file system mounted that all files are on.
    pub(crate) storage: Arc<Storage>,
    pub(crate) network: Option<Network>,
    /// `None`: QEMU itself has no limits here, only its guest.
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) records: Records,
    pub(crate) layout: Layout,
    pub(crate) engine: Engine,
    accelerator: OnceCell<Accelerator>,
    pub(crate) launcher: Vec<OsString>,
    /// Of each the first is the user that runs a machine.
    pub(crate) ranges: Ranges,
    pub(crate) live: Lives,
    pub(crate) starting: Starting,
    pub(crate) turns: Turns,
    pub(crate) far_ahead: Arc<Semaphore>,
}

impl VmDriver {
    /// Looks at the machine, lays out what every sandbox needs, and reads what earlier daemons left in the records.
    pub async fn new(options: Options) -> Result<Self, DriverError> {
        if !rustix::process::geteuid().is_root() {
            let text = "driver vm locks QEMU in with rights that only root has";
            return Err(DriverError::Unsupported(text.to_owned()));
        }
        fs::set_permissions(&options.data_dir, Permissions::from_mode(0o700))
            .map_err(at("close the data folder to others"))?;
        let records = Records::open(options.data_dir.join("vm/run")).map_err(at("open records"))?;
        let taken = uids_in_use(&records).map_err(at("read records"))?;
        let own = options.storage.own_folder("vm");
        let own = own.map_err(DriverError::step("open the storage"))?;
        let layout = Layout::open(own).map_err(at("open the storage"))?;
        let engine = Engine::open(&options.tools, options.programs, &layout.boot());
        let engine = engine.map_err(|error| DriverError::Unsupported(error.to_string()))?;
        let mut notes = vec![format!(
            "QEMU {}, guests with Linux {}",
            engine.version,
            engine.kernel_release()
        )];
        let cgroups = Cgroups::open(&options.cgroup_parent)
            .map_err(|error| notes.push(format!("QEMU itself has no limits: {error}")))
            .ok();
        let nat = Network::has_nat(options.network.as_ref(), &mut notes).await;
        let nat = nat.map_err(DriverError::step("ask the network gateway"))?;
        let mut capabilities = capabilities(&Machine {
            sharing: options.storage.tier() != Tier::Copy,
            nat,
            ..Machine::FULL
        });
        capabilities.notes.extend(notes);
        let live = Lives::default();
        let folder = layout.templates();
        tokio::spawn(watch(Arc::downgrade(&live), records.clone(), folder));
        // The server that made them may have ended first.
        let kept = layout.snapshots().map_err(at("list snapshots"))?;
        let folders = kept.into_iter().map(|id| layout.snapshot(id)).collect();
        tokio::spawn(settle_later(folders));
        Ok(Self {
            capabilities,
            storage: options.storage,
            network: options.network,
            cgroups,
            records,
            layout,
            engine,
            accelerator: OnceCell::new(),
            launcher: options.launcher_command,
            ranges: Ranges::new(options.first_uid, taken),
            live,
            starting: Starting::default(),
            turns: Turns::default(),
            far_ahead: Arc::new(Semaphore::new(FAR_AHEAD_AT_ONCE)),
        })
    }

    /// What runs guests here; found out when the first is made.
    pub(crate) async fn accelerator(&self) -> Accelerator {
        let choose = || choose(&self.engine, &self.layout);
        *self.accelerator.get_or_init(choose).await
    }

    /// What a machine that is kept now can only be restored with.
    pub(crate) async fn engine_key(&self) -> String {
        self.engine.key(self.accelerator().await)
    }

    pub(crate) fn live(&self, id: SandboxId) -> Option<Arc<Live>> {
        self.live.lock().get(&id).cloned()
    }

    /// The control group of a sandbox's QEMU, where there are any.
    pub(crate) fn group(&self, id: SandboxId) -> Option<Group> {
        Some(self.cgroups.as_ref()?.group(&id.label()))
    }

    pub(crate) fn state(&self, id: SandboxId) -> Result<State, DriverError> {
        self.records
            .read(id)
            .map_err(at("read the record"))?
            .ok_or(DriverError::NotFound(id))
    }

    /// Puts one request to the guest of a sandbox.
    pub(crate) async fn ask(
        &self,
        id: SandboxId,
        call: Call,
        patience: Duration,
    ) -> Result<Reply, DriverError> {
        let place = Place::of(&self.records, id)?;
        control::ask(&place, call, patience).await
    }

    /// Bytes that a sandbox's disk takes on the host.
    fn disk_bytes(&self, id: SandboxId) -> io::Result<u64> {
        let disk = fs::symlink_metadata(self.layout.sandbox(id).join(DISK))?;
        Ok(disk.blocks() * 512)
    }
}

#[async_trait]
impl Driver for VmDriver {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError> {
        self.begin(spec, Source::New).await
    }

    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError> {
        self.state(parent)?;
        self.begin(spec, Source::Parent(parent)).await
    }

    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        self.take_up(id).await
    }

    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError> {
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let place = Place::of(&self.records, id)?;
        Ok(Box::new(live.connect(id, &place).await?))
    }

    async fn wait(&self, id: SandboxId) -> Result<(), DriverError> {
        match self.live(id) {
            Some(live) => live.gone().await,
            None if self.records.exists(id) => Ok(()),
            None => Err(DriverError::NotFound(id)),
        }
    }

    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError> {
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let disk_bytes = self.disk_bytes(id).map_err(at("look at the disk"))?;
        let mut stats = Stats {
            disk_bytes,
            ..Stats::default()
        };
        if matches!(live.now(), Now::OnDisk) {
            return Ok(stats);
        }
        let call = Call::Stats(AskStats {});
        if let Reply::Usage(used) = self.ask(id, call, STATS_PATIENCE).await? {
            stats.cpu_us = used.cpu_us;
            stats.memory_bytes = used.memory_bytes;
            stats.memory_peak_bytes = used.memory_peak_bytes;
            stats.pids = used.pids;
            stats.oom_kills = used.oom_kills;
        }
        Ok(stats)
    }

    async fn pause(&self, id: SandboxId) -> Result<(), DriverError> {
        self.to_disk(id).await
    }

    async fn resume(&self, id: SandboxId) -> Result<(), DriverError> {
        self.wake_up(id).await
    }

    async fn snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        self.keep(id, snapshot, extent).await?.await
    }

    async fn take_snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Rest, DriverError> {
        self.keep(id, snapshot, extent).await
    }

    async fn restore(&self, from: SnapshotId, spec: &Spec) -> Result<Instance, DriverError> {
        self.begin(spec, Source::Snapshot(from)).await
    }

    async fn remove_snapshot(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        let folder = self.layout.snapshot(snapshot);
        blocking("remove the snapshot", move || {
            crate::layout::remove(&folder)
        })
        .await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        let layout = self.layout.clone();
        blocking("list snapshots", move || layout.snapshots()).await
    }

    async fn kill(&self, id: SandboxId) -> Result<(), DriverError> {
        if !self.records.exists(id) {
            return Err(DriverError::NotFound(id));
        }
        self.settle_disk(id).await;
        self.stop(id).await
    }

    async fn destroy(&self, id: SandboxId) -> Result<(), DriverError> {
        self.remove(id).await
    }

    async fn list(&self) -> Result<Vec<SandboxId>, DriverError> {
        self.everything().await
    }

    async fn release(&self) -> Result<bool, DriverError> {
        if !self.list().await?.is_empty() {
            return Ok(false);
        }
        let cgroups = self.cgroups.clone().map_or(Ok(()), Cgroups::close);
        cgroups.map_err(at("remove the node's control group"))?;
        Ok(true)
    }
}

fn uids_in_use(records: &Records) -> io::Result<BTreeSet<u32>> {
    let mut used = BTreeSet::new();
    for id in records.list()? {
        used.extend(records.read(id)?.map(|state| state.uid));
    }
    Ok(used)
}
