//! A fresh store on either engine, and short ways to fill it.

use jiff::{SignedDuration, Timestamp};
use skerry_store::{
    Change, LOCAL_NODE, Location, Network, NewSandbox, Node, NodeState, OnTimeout, Org, Quotas,
    Sandbox, Store, System, Tenant, Wanted,
};
use skerry_types::{Action, Egress, NodeId, OrgId, Resources, SandboxId};

pub(crate) const SYSTEM: System = System::on_its_own_behalf();
pub(crate) const LOCAL: Tenant = Tenant::of(OrgId::LOCAL);

/// Runs each of these functions as a test on both engines.
macro_rules! on_both_engines {
    ($($test:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(&crate::bed::Bed::sqlite().await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(bed) = crate::bed::Bed::postgres().await {
                    super::$test(&bed).await;
                }
            })*
        }
    };
}
pub(crate) use on_both_engines;

/// A store of its own. Its folder goes when it goes; its PostgreSQL database goes with the cluster.
pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) location: Location,
    _folder: Option<tempfile::TempDir>,
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("skerry.db"));
        Self::open(location, Some(folder)).await
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let url = skerry_testkit::postgres::fresh_database().unwrap()?;
        Some(Self::open(url.parse().unwrap(), None).await)
    }

    async fn open(location: Location, folder: Option<tempfile::TempDir>) -> Self {
        Self {
            store: Store::open(&location).await.unwrap(),
            location,
            _folder: folder,
        }
    }

    /// Puts the local node online with this many slots.
    pub(crate) async fn node(&self, slots_total: u32) -> NodeId {
        self.node_with(LOCAL_NODE, slots_total).await
    }

    pub(crate) async fn node_with(&self, id: NodeId, slots_total: u32) -> NodeId {
        let node = Node {
            id,
            name: "n".into(),
            hostname: "h".into(),
            slots_total,
            state: NodeState::Online,
            version: "1".into(),
            capabilities: serde_json::json!({"drivers": ["ns"]}),
            last_seen_at: Some(at(0)),
            created_at: at(0),
        };
        self.store.put_node(&SYSTEM, node, at(0)).await.unwrap();
        id
    }

    /// A further org with these quotas.
    pub(crate) async fn org(&self, slug: &str, quotas: Quotas) -> Tenant {
        let org = Org {
            id: OrgId::new(),
            name: slug.to_uppercase(),
            slug: slug.into(),
            created_at: at(0),
        };
        self.store.create_org(&SYSTEM, &org, quotas).await.unwrap();
        Tenant::of(org.id)
    }

    /// A sandbox that waits.
    pub(crate) async fn queued(&self, tenant: &Tenant, seconds: i64) -> Sandbox {
        self.made(tenant, None, seconds).await
    }

    /// A new sandbox, after looking that what is returned is what was stored.
    async fn made(&self, tenant: &Tenant, node: Option<NodeId>, seconds: i64) -> Sandbox {
        let at = at(seconds) + SignedDuration::from_nanos(1);
        let made = self
            .store
            .create_sandbox(tenant, new_sandbox(), node, at)
            .await
            .unwrap();
        assert_eq!(self.store.sandbox(tenant, made.id).await.unwrap(), made);
        made
    }

    /// A sandbox that runs on the local node, which must have room.
    pub(crate) async fn running(&self, tenant: &Tenant, seconds: i64) -> Sandbox {
        let made = self.made(tenant, Some(LOCAL_NODE), seconds).await;
        self.act(&made, Action::Ready, seconds).await
    }

    /// How many hold a slot on this node.
    pub(crate) async fn held(&self, node: NodeId) -> usize {
        let held = self.store.sandboxes_on(&SYSTEM, node).await;
        held.unwrap().len()
    }

    /// Lets it happen.
    pub(crate) async fn act(&self, sandbox: &Sandbox, action: Action, seconds: i64) -> Sandbox {
        self.store
            .act(
                &sandbox.tenant(),
                sandbox.id,
                action,
                &Change::default(),
                at(seconds),
            )
            .await
            .unwrap()
    }
}

/// A time in the life of these tests.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn new_sandbox() -> NewSandbox {
    NewSandbox {
        id: SandboxId::new(),
        name: None,
        project: None,
        region: "local".into(),
        image: "base".into(),
        profile: None,
        resources: Resources::FREE_FORM,
        wanted: Wanted::default(),
        network: Network::Nat,
        metadata: [("team".to_owned(), "red".to_owned())].into(),
        env_names: vec!["TOKEN".into()],
        ttl_seconds: 3600,
        idle_seconds: 900,
        on_timeout: OnTimeout::Stop,
        on_idle: None,
        auto_resume: false,
        keep_paused: false,
        public_ports: false,
        ports: Vec::new(),
        egress: Egress::default(),
        volumes: Vec::new(),
        template: None,
        queue_timeout_seconds: 300,
    }
}

pub(crate) fn ids(sandboxes: &[Sandbox]) -> Vec<SandboxId> {
    sandboxes.iter().map(|sandbox| sandbox.id).collect()
}
