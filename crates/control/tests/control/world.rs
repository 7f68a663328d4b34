//! A world for one test: a store, a clock that stands still, a fake node, and control over them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp, Unit};
use skerry_control::{
    Caller, Control, CreateRequest, ImageCatalogue, ManualClock, Member, NodeFacts, Nodes, Offer,
    Sandbox, Settings, Until,
};
use skerry_store::{LOCAL_NODE, Location, Org, Quotas, Store, System, Tenant};
use skerry_types::{Error, ErrorCode, NodeId, OrgId, Result, SandboxId, SandboxState, SnapshotId};
use tempfile::TempDir;
use uuid::Uuid;

use crate::fake::FakeNode;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const SYSTEM: System = System::on_its_own_behalf();

/// See the module.
pub(crate) struct World {
    pub(crate) control: Control,
    pub(crate) store: Store,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) caller: Caller,
    pub(crate) settings: Settings,
    /// What its node offers from the next start on.
    pub(crate) isolation: &'static str,
    slots: u32,
    dir: TempDir,
}

/// An image has the name that this snapshot would have.
pub(crate) const LOOKALIKE: Uuid = Uuid::from_u128(77);

struct Images;

#[async_trait]
impl ImageCatalogue for Images {
    async fn resolve(&self, reference: &str) -> Result<Option<String>> {
        Ok(self.names().await?.into_iter().find(|n| n == reference))
    }

    async fn digest(&self, name: &str) -> Result<String> {
        Ok(format!("sha256:{name}"))
    }

    async fn fetch(&self, reference: &str, _: Option<(String, String)>) -> Result<()> {
        Err(Error::not_found(reference))
    }

    async fn names(&self) -> Result<Vec<String>> {
        // The last looks like a snapshot.
        let label = SnapshotId::from_uuid(LOOKALIKE).label();
        Ok(vec!["base".into(), "python".into(), label])
    }
}

impl World {
    /// A store with the initial rows, and control over one node with so many slots.
    pub(crate) async fn new(slots: u32) -> Self {
        Self::with(slots, Settings::default()).await
    }

    pub(crate) async fn with(slots: u32, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = match std::env::var("SKERRY_TEST_STORE").as_deref() {
            Ok("postgres") => skerry_testkit::postgres::fresh_database()
                .unwrap()
                .expect("PostgreSQL is installed")
                .parse()
                .unwrap(),
            _ => Location::Sqlite(dir.path().join("skerry.db")),
        };
        let store = Store::open(&location).await.unwrap();
        // As fine as what is stored, so that what is read again is the same.
        let now = Timestamp::now().round(Unit::Microsecond).unwrap();
        let clock = Arc::new(ManualClock::new(now));
        let node = FakeNode::new(clock.clone());
        let settings = Settings {
            clock: clock.clone(),
            ..settings
        };
        let control = start(&store, &node, &settings, slots, "namespace").await;
        let secret = control
            .ensure_local_key(&dir.path().join("key"))
            .await
            .unwrap();
        let caller = control.authenticate(&secret).await.unwrap();
        Self {
            control,
            store,
            node,
            clock,
            caller,
            settings,
            isolation: "namespace",
            slots,
            dir,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The daemon is killed and starts again: all that was in memory is gone.
    pub(crate) async fn restart(&mut self) {
        self.control.drain().await;
        let (slots, isolation) = (self.slots, self.isolation);
        self.control = start(&self.store, &self.node, &self.settings, slots, isolation).await;
    }

    /// Another control process over the same store and node.
    pub(crate) fn beside(&self) -> impl Future<Output = Control> + Send + use<> {
        let (store, node, settings) =
            (self.store.clone(), self.node.clone(), self.settings.clone());
        let (slots, isolation) = (self.slots, self.isolation);
        async move { start(&store, &node, &settings, slots, isolation).await }
    }

    /// Its node.
    pub(crate) fn member(&self) -> Member {
        member(LOCAL_NODE, &self.node, self.slots, self.isolation)
    }

    /// A node that nobody has put anything on.
    pub(crate) fn another_node(&self, slots: u32) -> Member {
        let node = FakeNode::new(self.clock.clone());
        member(NodeId::new(), &node, slots, self.isolation)
    }

    /// Control over these nodes.
    pub(crate) async fn over(&self, members: Vec<Member>) -> Control {
        let (store, settings) = (self.store.clone(), self.settings.clone());
        let nodes = Nodes::new(members);
        let started = Control::start(store, nodes, Arc::new(Images), settings);
        started.await.unwrap()
    }

    /// Time passes.
    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }

    pub(crate) async fn create(&self) -> Sandbox {
        self.create_with(CreateRequest::default()).await
    }

    pub(crate) async fn create_with(&self, request: CreateRequest) -> Sandbox {
        self.control.create(&self.caller, request).await.unwrap()
    }

    /// One that runs.
    pub(crate) async fn running(&self) -> SandboxId {
        self.running_with(CreateRequest::default()).await
    }

    pub(crate) async fn running_with(&self, request: CreateRequest) -> SandboxId {
        let id = self.create_with(request).await.id;
        self.becomes(id, SandboxState::Running).await;
        id
    }

    pub(crate) async fn get(&self, id: SandboxId) -> Sandbox {
        self.control.get(&self.caller, id).await.unwrap()
    }

    /// Waits until it is in this state.
    pub(crate) async fn becomes(&self, id: SandboxId, state: SandboxState) -> Sandbox {
        let reached = async {
            loop {
                let now = self.get(id).await;
                if now.status == state {
                    return now;
                }
                let until = Until::Leaves(now.status);
                let waited = self.control.wait_until(&self.caller, id, until, PATIENCE);
                let next = waited.await.unwrap().status;
                // One that has ended is not waited for, and may still be deleted.
                let is_same = next == now.status;
                assert!(
                    next == state || is_same || !next.is_ended(),
                    "{id} became {next}, not {state}"
                );
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        if let Ok(sandbox) = waited {
            return sandbox;
        }
        panic!("{id} is still {}, not {state}", self.get(id).await.status)
    }

    /// Another org, and a caller of it.
    pub(crate) async fn stranger(&self, quotas: Quotas) -> Caller {
        let org = Org {
            id: OrgId::new(),
            name: "Other".into(),
            slug: "other".into(),
            created_at: Timestamp::now(),
        };
        self.store.create_org(&SYSTEM, &org, quotas).await.unwrap();
        Caller {
            tenant: Tenant::of(org.id),
            ..self.caller.clone()
        }
    }

    /// Gives its org other quotas, and lets what control trusts of the old ones run out.
    pub(crate) async fn allow(&self, change: impl FnOnce(&mut Quotas)) {
        let mut quotas = self.store.quotas(&self.caller.tenant).await.unwrap();
        change(&mut quotas);
        let org = self.caller.tenant.org();
        self.store.set_quotas(&SYSTEM, org, quotas).await.unwrap();
        self.pass(5);
    }
}

async fn start(
    store: &Store,
    node: &Arc<FakeNode>,
    settings: &Settings,
    slots: u32,
    isolation: &str,
) -> Control {
    let nodes = Nodes::new(vec![member(LOCAL_NODE, node, slots, isolation)]);
    Control::start(store.clone(), nodes, Arc::new(Images), settings.clone())
        .await
        .unwrap()
}

fn member(id: NodeId, node: &Arc<FakeNode>, slots: u32, isolation: &str) -> Member {
    Member {
        facts: NodeFacts {
            id,
            name: id.to_string(),
            region: "local".into(),
            slots,
            offers: vec![Offer {
                driver: "sim".into(),
                isolation: isolation.into(),
                volumes: true,
            }],
        },
        handle: node.clone(),
    }
}

/// Waits until something becomes true that nobody announces.
pub(crate) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let holds = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, holds).await;
    assert!(waited.is_ok(), "never: {what}");
}

/// The code of the error that this must be.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code
}
