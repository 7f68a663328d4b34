//! The driver over a simulated machine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skerry_driver::{
    AgentLink, Capabilities, Driver, DriverError, Extent, Instance, Isolation, NetworkMode,
    Privilege, Snapshot, Spec, Stats,
};
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::duplex;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::link::Breaking;
use crate::script::{Script, Stage};
use crate::tree::Tree;
use crate::world::{Frozen, Sandbox, World};

/// What a link holds before its writer must wait.
const LINK_BYTES: usize = 64 * 1024;

/// A driver over a [`World`].
#[derive(Debug)]
pub struct SimDriver {
    world: Arc<World>,
    capabilities: Capabilities,
}

impl SimDriver {
    /// A driver that finds on the machine whatever others left there.
    pub fn new(world: Arc<World>) -> Self {
        let capabilities = Capabilities {
            driver: "sim".to_owned(),
            isolation: Isolation::None,
            rootless: true,
            pause: true,
            pause_to_disk: false,
            file_snapshot: true,
            memory_snapshot: false,
            keeps_connections: false,
            file_fork: true,
            constant_time_fork: false,
            limits: false,
            limits_spare_sandbox: false,
            disk_quota: false,
            call_filter: false,
            level_root: false,
            users: false,
            nat: false,
            volumes: false,
            notes: vec!["Everything is simulated; nothing is isolated.".to_owned()],
        };
        Self {
            world,
            capabilities,
        }
    }

    /// One whose agents are asked to hold their processes before a pause, as if that went to disk.
    pub fn that_holds(world: Arc<World>) -> Self {
        let mut driver = Self::new(world);
        driver.capabilities.pause_to_disk = true;
        driver
    }

    /// One whose snapshots can have memory, as far as that their agents wake up held.
    pub fn that_keeps_memory(world: Arc<World>) -> Self {
        let mut driver = Self::new(world);
        driver.capabilities.memory_snapshot = true;
        driver
    }

    /// One whose machine has a way out.
    pub fn that_has_nat(world: Arc<World>) -> Self {
        let mut driver = Self::new(world);
        driver.capabilities.nat = true;
        driver
    }

    /// Makes a sandbox in the stages of [`Stage`]; what a failure leaves is taken away.
    async fn make(
        &self,
        spec: &Spec,
        files: impl FnOnce() -> Result<Tree, DriverError> + Send,
    ) -> Result<Instance, DriverError> {
        self.check(spec)?;
        self.stage(Stage::Record).await?;
        self.begin(spec.id)?;
        let made = self.fill(spec, files).await;
        if made.is_err() {
            self.world.sandboxes.lock().remove(&spec.id);
        }
        made
    }

    fn check(&self, spec: &Spec) -> Result<(), DriverError> {
        if spec.privilege == Privilege::Root {
            return Err(self.capabilities.unsupported("give level root"));
        }
        if spec.network == NetworkMode::Nat && !self.capabilities.nat {
            return Err(self.capabilities.unsupported("give network nat"));
        }
        self.capabilities.check_volumes(spec)
    }

    fn begin(&self, id: SandboxId) -> Result<(), DriverError> {
        let mut sandboxes = self.world.sandboxes.lock();
        match sandboxes.get_mut(&id) {
            Some(prepared) if prepared.is_prepared => {
                prepared.is_prepared = false;
                return Ok(());
            }
            Some(_) => return Err(DriverError::Exists(id)),
            None => {}
        }
        let nothing = Sandbox {
            is_prepared: false,
            instance: None,
            tree: Arc::new(Tree::new()),
            agent: None,
        };
        sandboxes.insert(id, nothing);
        Ok(())
    }

    async fn fill(
        &self,
        spec: &Spec,
        files: impl FnOnce() -> Result<Tree, DriverError> + Send,
    ) -> Result<Instance, DriverError> {
        if self.hangs(|script| &mut script.hang_creates) {
            return std::future::pending().await;
        }
        self.stage(Stage::Files).await?;
        let tree = Arc::new(files()?);
        own_files(&tree, spec).map_err(DriverError::step("write its own files"))?;
        self.stage(Stage::Agent).await?;
        let lives = self.world.script(|script| script.die_after);
        let agent = Agent::start(&self.world.runtime, Arc::clone(&tree), lives);
        let instance = Instance {
            facts: self.capabilities.facts(spec, "memory"),
            steps: Vec::new(),
        };
        let ready = self.stage(Stage::Ready).await;
        if let Err(error) = ready {
            agent.die();
            return Err(error);
        }
        if let Some(sandbox) = self.world.sandboxes.lock().get_mut(&spec.id) {
            sandbox.instance = Some(instance.clone());
            sandbox.tree = tree;
            sandbox.agent = Some(agent);
            return Ok(instance);
        }
        // Destroyed while it was made.
        agent.die();
        Err(DriverError::NotFound(spec.id))
    }

    async fn stage(&self, stage: Stage) -> Result<(), DriverError> {
        let (delay, fails) = self
            .world
            .script(|script| (script.delay, script.fail_at == Some(stage)));
        sleep(delay).await;
        if fails {
            return Err(DriverError::step("do as the script says")(
                io::Error::other(format!("failed at {stage:?}")),
            ));
        }
        Ok(())
    }

    /// Takes one of those that hang.
    fn hangs(&self, count: fn(&mut Script) -> &mut u32) -> bool {
        self.world.script(|script| {
            let left = count(script);
            let hangs = *left > 0;
            *left = left.saturating_sub(1);
            hangs
        })
    }

    async fn removal(&self) -> Result<(), DriverError> {
        if self.hangs(|script| &mut script.hang_removals) {
            return std::future::pending().await;
        }
        let (delay, fails) = self.world.script(|script| {
            let fails = script.fail_removals > 0;
            script.fail_removals = script.fail_removals.saturating_sub(1);
            (script.delay, fails)
        });
        sleep(delay).await;
        if fails {
            let error = io::Error::other("a removal failed");
            return Err(DriverError::step("do as the script says")(error));
        }
        Ok(())
    }

    fn exists(&self, id: SandboxId) -> bool {
        self.world.sandboxes.lock().contains_key(&id)
    }

    /// The agent of a sandbox, if it runs.
    fn running(&self, id: SandboxId) -> Result<Arc<Agent>, DriverError> {
        if !self.exists(id) {
            return Err(DriverError::NotFound(id));
        }
        let agent = self.world.agent(id).filter(|agent| !agent.is_dead());
        agent.ok_or(DriverError::NotRunning(id))
    }

    fn end(&self, id: SandboxId) -> Result<(), DriverError> {
        let mut sandboxes = self.world.sandboxes.lock();
        let sandbox = sandboxes.get_mut(&id).ok_or(DriverError::NotFound(id))?;
        if let Some(agent) = sandbox.agent.take() {
            agent.die();
        }
        Ok(())
    }
}

#[async_trait]
impl Driver for SimDriver {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn prepare(&self, id: SandboxId, _network: NetworkMode) -> Result<bool, DriverError> {
        self.begin(id)?;
        if let Some(prepared) = self.world.sandboxes.lock().get_mut(&id) {
            prepared.is_prepared = true;
        }
        Ok(true)
    }

    async fn create(&self, spec: &Spec) -> Result<Instance, DriverError> {
        self.make(spec, || Ok(Tree::new())).await
    }

    async fn fork(&self, parent: SandboxId, spec: &Spec) -> Result<Instance, DriverError> {
        if !self.exists(parent) {
            return Err(DriverError::NotFound(parent));
        }
        let copy = || {
            let sandboxes = self.world.sandboxes.lock();
            let parent = sandboxes
                .get(&parent)
                .ok_or(DriverError::NotFound(parent))?;
            Ok(parent.tree.copy())
        };
        self.make(spec, copy).await
    }

    async fn adopt(&self, id: SandboxId) -> Result<Option<Instance>, DriverError> {
        if self.world.script(|script| script.fail_adopts) {
            let scripted = io::Error::other("as the script says");
            return Err(DriverError::step("look at it")(scripted));
        }
        if self.running(id).is_err() {
            return Ok(None);
        }
        let sandboxes = self.world.sandboxes.lock();
        Ok(sandboxes.get(&id).and_then(|found| found.instance.clone()))
    }

    async fn connect(&self, id: SandboxId) -> Result<AgentLink, DriverError> {
        let agent = self.running(id)?;
        let (refused, cut) = self.world.script(|script| {
            let refused = script.refuse_connects > 0;
            script.refuse_connects = script.refuse_connects.saturating_sub(1);
            (
                refused,
                (!refused).then(|| script.cuts.pop_front()).flatten(),
            )
        });
        let connect = || DriverError::step("connect to the agent");
        if refused {
            return Err(connect()(io::Error::from(io::ErrorKind::ConnectionRefused)));
        }
        let (ours, theirs) = duplex(LINK_BYTES);
        let theirs = match self.world.impostors.lock().get(&id) {
            Some(impostor) => impostor.send(theirs).err().map(|refused| refused.0),
            None => Some(theirs),
        };
        let Some(theirs) = theirs else {
            return Ok(Box::new(ours));
        };
        agent.link(theirs).await.map_err(connect())?;
        Ok(Box::new(Breaking::new(ours, cut)))
    }

    async fn wait(&self, id: SandboxId) -> Result<(), DriverError> {
        if !self.exists(id) {
            return Err(DriverError::NotFound(id));
        }
        if let Some(agent) = self.world.agent(id) {
            agent.dead().await;
        }
        Ok(())
    }

    async fn stats(&self, id: SandboxId) -> Result<Stats, DriverError> {
        let agent = self.world.agent(id).ok_or(DriverError::NotRunning(id))?;
        Ok(Stats {
            pids: agent.processes(),
            disk_bytes: agent.tree().size(),
            oom_kills: self.world.script(|script| script.oom_kills),
            ..Stats::default()
        })
    }

    async fn pause(&self, id: SandboxId) -> Result<(), DriverError> {
        let agent = self.running(id)?;
        if self.world.script(|script| script.fail_pauses) {
            let scripted = io::Error::other("as the script says");
            return Err(DriverError::step("pause it")(scripted));
        }
        agent.pause(true);
        Ok(())
    }

    async fn resume(&self, id: SandboxId) -> Result<(), DriverError> {
        let agent = self.running(id)?;
        if self.world.script(|script| script.fail_resumes) {
            let scripted = io::Error::other("as the script says");
            return Err(DriverError::step("resume it")(scripted));
        }
        agent.pause(false);
        Ok(())
    }

    async fn snapshot(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        let memory = extent == Extent::Memory;
        if memory && !self.capabilities.memory_snapshot {
            return Err(self.capabilities.unsupported("keep a snapshot with memory"));
        }
        let tree = self.running(id)?.tree().copy();
        self.stage(Stage::Files).await?;
        let bytes = tree.size();
        let frozen = Frozen { tree, memory };
        self.world.snapshots.lock().insert(snapshot, frozen);
        Ok(Snapshot {
            held: Duration::ZERO,
            bytes,
            steps: Vec::new(),
        })
    }

    async fn restore(&self, from: SnapshotId, spec: &Spec) -> Result<Instance, DriverError> {
        let mut is_held = false;
        let copy = || {
            let snapshots = self.world.snapshots.lock();
            let frozen = snapshots.get(&from);
            let frozen = frozen.ok_or(DriverError::NoSnapshot(from))?;
            is_held = frozen.memory;
            Ok(frozen.tree.copy())
        };
        let made = self.make(spec, copy).await?;
        if is_held {
            self.world.hold(spec.id);
        }
        Ok(made)
    }

    async fn remove_snapshot(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        self.removal().await?;
        self.world.snapshots.lock().remove(&snapshot);
        Ok(())
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        Ok(self.world.snapshots())
    }

    async fn kill(&self, id: SandboxId) -> Result<(), DriverError> {
        self.removal().await?;
        self.end(id)
    }

    async fn destroy(&self, id: SandboxId) -> Result<(), DriverError> {
        self.removal().await?;
        // One that is not there is fine.
        drop(self.end(id));
        self.world.sandboxes.lock().remove(&id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxId>, DriverError> {
        Ok(self.world.sandboxes())
    }
}

/// What differs from sandbox to sandbox, and the folders that programs expect.
fn own_files(tree: &Tree, spec: &Spec) -> io::Result<()> {
    let hostname = format!("{}\n", spec.hostname);
    let machine_id = format!("{}\n", spec.id.uuid().simple());
    let made = tree
        .make_dir("/tmp", 0o1777)
        .and_then(|()| tree.make_dir("/root", 0o700))
        .and_then(|()| tree.write("/etc/hostname", hostname.as_bytes(), 0o644))
        .and_then(|_| tree.write("/etc/machine-id", machine_id.as_bytes(), 0o444));
    made.map(drop)
        .map_err(|error| io::Error::from_raw_os_error(error as i32))
}
