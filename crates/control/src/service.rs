//! Control itself: what it holds, and how it starts.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use skerry_proto::node::Map;
use skerry_store::{Change, Node, NodeState, Store, System, Tenant};
use skerry_types::{Action, Error, ErrorCode, FailureReason, NodeId, OrgId, Result, SnapshotId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::keys::Known;
use crate::live::Live;
use crate::rate::Rates;
use crate::sign::Signer;
use crate::templates::{Builds, Uploads};
use crate::turns::Turns;
use crate::{ImageCatalogue, Member, Nodes, Quotas, Settings};

/// For what control does by itself, on behalf of no request.
pub(crate) const SYSTEM: System = System::on_its_own_behalf();

/// Control. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Inner>);

/// See [`Control`].
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) nodes: Nodes,
    pub(crate) images: Arc<dyn ImageCatalogue>,
    pub(crate) settings: Settings,
    pub(crate) signer: Signer,
    pub(crate) live: Live,
    pub(crate) keys: Cache<[u8; 32], Known>,
    pub(crate) quotas: Cache<OrgId, Quotas>,
    pub(crate) rates: Rates,
    /// Held while a sandbox gets its place or its place in the queue, so that memory and store agree on the order.
    pub(crate) placing: tokio::sync::Mutex<()>,
    /// Snapshots that are being taken here.
    pub(crate) snapshotting: Mutex<HashSet<SnapshotId>>,
    /// Deletions that are under way here.
    pub(crate) deleting: Turns,
    /// Held while deletions that were left open are taken up.
    pub(crate) finishing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) builds: Builds,
    pub(crate) uploads: Uploads,
    /// Nodes that do not answer, and since when.
    pub(crate) silent: Mutex<HashMap<NodeId, Timestamp>>,
    pub(crate) clean_at: Mutex<Timestamp>,
    /// Planning has something new to look at.
    pub(crate) wake: Notify,
    /// A request with an idempotency key has ended.
    pub(crate) answered: Notify,
    /// What was begun and must be finished, whoever waits for it.
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: AtomicBool,
    pub(crate) stop: CancellationToken,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("nodes", &self.0.nodes)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Brings store and nodes into agreement, then begins to serve.
    pub async fn start(
        store: Store,
        nodes: Nodes,
        images: Arc<dyn ImageCatalogue>,
        settings: Settings,
    ) -> Result<Self> {
        let control = Self(Arc::new(Inner {
            clean_at: Mutex::new(settings.clock.now()),
            signer: Signer::open(&store).await?,
            store,
            nodes,
            images,
            uploads: Uploads::new(settings.uploads.clone()),
            settings,
            live: Live::default(),
            keys: Cache::default(),
            quotas: Cache::default(),
            rates: Rates::default(),
            placing: tokio::sync::Mutex::default(),
            snapshotting: Mutex::default(),
            deleting: Turns::default(),
            finishing: Arc::default(),
            builds: Builds::default(),
            silent: Mutex::default(),
            wake: Notify::new(),
            answered: Notify::new(),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
        }));
        control.remember().await?;
        for member in control.0.nodes.all() {
            control.probe(member).await;
        }
        control.close_builds().await?;
        control.spawn_loops();
        Ok(control)
    }

    /// What the org of this caller may have, as it was at most 5 s ago.
    pub async fn quotas(&self, caller: &crate::Caller) -> Result<Quotas> {
        let (tenant, now) = (&caller.tenant, self.now());
        let ask = async { Ok(self.0.store.quotas(tenant).await?) };
        self.0.quotas.get(tenant.org(), now, ask).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.settings.clock.now()
    }

    /// Runs work to its end even if whoever waits for it goes away. It begins at once, so that who waits does not carry it.
    pub(crate) fn detached<T, F>(
        &self,
        work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let task = self.0.tasks.spawn(work);
        async {
            task.await.unwrap_or_else(|error| {
                tracing::error!(%error, "an operation broke off");
                Err(Error::internal("the operation broke off"))
            })
        }
    }

    /// Refuses new work once control is ending.
    pub(crate) fn takes_work(&self) -> Result<()> {
        if self.0.draining.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorCode::ServiceUnavailable,
                "this server is shutting down and takes nothing new",
            )
            .retry_after(5));
        }
        Ok(())
    }

    /// Reads from the store what has not ended.
    async fn remember(&self) -> Result<()> {
        let inner = &self.0;
        inner
            .store
            .release_claims(&SYSTEM, &inner.settings.replica)
            .await?;
        for member in inner.nodes.all() {
            inner
                .store
                .put_node(&SYSTEM, self.node_row(member), self.now())
                .await?;
            for row in inner.store.sandboxes_on(&SYSTEM, member.facts.id).await? {
                inner.live.insert(row, Map::new());
            }
        }
        for row in inner.store.queued(&SYSTEM).await? {
            let lost_env = !row.env_names.is_empty();
            let (tenant, id): (Tenant, _) = (row.tenant(), row.id);
            inner.live.insert(row, Map::new());
            if lost_env {
                let change = Change {
                    reason: Some(FailureReason::ProvisionFailed),
                    message: Some("the server restarted while it waited, and the values of its environment are never written down; create it again".into()),
                    ..Change::default()
                };
                self.act(&tenant, id, Action::Fail, &change).await?;
            }
        }
        for deletion in inner.store.open_deletions(&SYSTEM).await? {
            inner.live.leave(deletion.sandbox.id, deletion.reason);
        }
        Ok(())
    }

    /// A node is offline until it answers.
    fn node_row(&self, member: &Member) -> Node {
        let facts = &member.facts;
        Node {
            id: facts.id,
            name: facts.name.clone(),
            hostname: facts.name.clone(),
            slots_total: facts.slots,
            state: NodeState::Offline,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: serde_json::json!({ "drivers": facts.offers.iter().map(|o| &o.driver).collect::<Vec<_>>() }),
            last_seen_at: None,
            created_at: self.now(),
        }
    }

    fn spawn_loops(&self) {
        tokio::spawn(self.clone().reconcile());
        for member in self.0.nodes.all() {
            tokio::spawn(self.clone().follow(member.clone()));
        }
    }
}
