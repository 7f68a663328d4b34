//! The simulated machine: what drivers made on it, and what is to go wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_driver::Instance;
use skerry_types::{SandboxId, SnapshotId};
use tokio::io::DuplexStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::script::Script;
use crate::tree::Tree;

/// See the crate.
pub struct World {
    pub(crate) runtime: Handle,
    pub(crate) sandboxes: Mutex<BTreeMap<SandboxId, Sandbox>>,
    pub(crate) snapshots: Mutex<BTreeMap<SnapshotId, Frozen>>,
    script: Mutex<Script>,
    /// Who is reached instead of a sandbox's agent.
    pub(crate) impostors: Mutex<BTreeMap<SandboxId, mpsc::UnboundedSender<DuplexStream>>>,
}

/// A snapshot.
pub(crate) struct Frozen {
    pub(crate) tree: Tree,
    /// What is made from it wakes up held. Programs are not copied.
    pub(crate) memory: bool,
}

/// What is on the machine of a sandbox.
pub(crate) struct Sandbox {
    /// It is nobody's yet.
    pub(crate) is_prepared: bool,
    /// What was made, once all of it was.
    pub(crate) instance: Option<Instance>,
    pub(crate) tree: Arc<Tree>,
    /// `None` before it starts and after a kill.
    pub(crate) agent: Option<Arc<Agent>>,
}

impl World {
    /// An empty machine whose agents run on the current runtime, where everything goes well.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            runtime: Handle::current(),
            sandboxes: Mutex::default(),
            snapshots: Mutex::default(),
            script: Mutex::default(),
            impostors: Mutex::default(),
        })
    }

    /// Changes what goes wrong.
    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock())
    }

    /// The agent of a sandbox dies at once, as if it had crashed.
    pub fn lose_agent(&self, id: SandboxId) {
        if let Some(agent) = self.agent(id) {
            agent.die();
        }
    }

    /// The link to a sandbox's agent that stands breaks now.
    pub fn break_links(&self, id: SandboxId) {
        if let Some(agent) = self.agent(id) {
            agent.unlink();
        }
    }

    /// From now on whoever connects to this sandbox's agent reaches the holder of the answer instead; the link that stands breaks. When the answer
    /// is dropped the agent can be reached again.
    pub fn replace_agent(&self, id: SandboxId) -> mpsc::UnboundedReceiver<DuplexStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.impostors.lock().insert(id, sender);
        self.break_links(id);
        receiver
    }

    /// A sandbox's agent holds its processes from now on, as if somebody had asked for that and died.
    pub fn hold(&self, id: SandboxId) {
        if let Some(agent) = self.agent(id) {
            agent.hold(true);
        }
    }

    /// Whether a sandbox's agent holds its processes.
    pub fn is_held(&self, id: SandboxId) -> bool {
        self.agent(id).is_some_and(|agent| agent.is_held())
    }

    /// Whether a sandbox is paused.
    pub fn is_paused(&self, id: SandboxId) -> bool {
        self.agent(id).is_some_and(|agent| agent.is_paused())
    }

    /// Everything of which anything is on the machine.
    pub fn sandboxes(&self) -> Vec<SandboxId> {
        self.sandboxes.lock().keys().copied().collect()
    }

    /// Every snapshot of which anything is on the machine.
    pub fn snapshots(&self) -> Vec<SnapshotId> {
        self.snapshots.lock().keys().copied().collect()
    }

    /// The content of a file in a sandbox, if both are there.
    pub fn file(&self, id: SandboxId, path: &str) -> Option<Vec<u8>> {
        let tree = Arc::clone(&self.sandboxes.lock().get(&id)?.tree);
        tree.read(path).ok()
    }

    pub(crate) fn agent(&self, id: SandboxId) -> Option<Arc<Agent>> {
        self.sandboxes.lock().get(&id)?.agent.clone()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("sandboxes", &self.sandboxes())
            .finish_non_exhaustive()
    }
}
