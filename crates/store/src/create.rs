//! New sandboxes: made from nothing, or forked. Quota, slot and fork limits are checked in the transaction that inserts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use skerry_types::{NodeId, Profile, Resources, SandboxId, SandboxState};

use crate::Store;
use crate::context::Tenant;
use crate::db::Tx;
use crate::error::{Result, StoreError};
use crate::orgs::{Quotas, lock_quotas};
use crate::sandbox::{Network, OnTimeout, Sandbox, Wanted};
use crate::sql::{Sql, sql};

/// A sandbox that is asked for.
#[derive(Debug, Clone)]
pub struct NewSandbox {
    /// Its id. The same again: exists.
    pub id: SandboxId,
    /// What people call it. One that a living sandbox of the org has: name taken.
    pub name: Option<String>,
    /// The project that it belongs to.
    pub project: Option<String>,
    /// Where.
    pub region: String,
    /// What it starts from.
    pub image: String,
    /// The named size.
    pub profile: Option<Profile>,
    /// What it may use at most.
    pub resources: Resources,
    /// What is asked of its isolation.
    pub wanted: Wanted,
    /// What it reaches.
    pub network: Network,
    /// The caller's own names and values.
    pub metadata: BTreeMap<String, String>,
    /// Names of its environment.
    pub env_names: Vec<String>,
    /// Age limit; 0: none.
    pub ttl_seconds: u32,
    /// How long it may be unused; 0: for ever.
    pub idle_seconds: u32,
    /// What happens when either is over.
    pub on_timeout: OnTimeout,
    /// How long it waits for a place.
    pub queue_timeout_seconds: u32,
}

/// What is different in a fork; the rest comes from the parent.
#[derive(Debug, Clone)]
pub struct NewFork {
    /// The child's id.
    pub id: SandboxId,
    /// The child's name.
    pub name: Option<String>,
    /// Environment names added to the parent's.
    pub env_names: Vec<String>,
    /// The child's age limit; as the parent's where not given.
    pub ttl_seconds: Option<u32>,
    /// Goes over the parent's metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Store {
    /// Inserts a sandbox, and gives it a slot on `node` if one is free and nobody waits: then it is `provisioning`, else `queued`.
    ///
    /// Fails with [`StoreError::Quota`] when the org has all it may have, however many creates race.
    pub async fn create_sandbox(
        &self,
        tenant: &Tenant,
        new: NewSandbox,
        node: Option<NodeId>,
        at: Timestamp,
    ) -> Result<Sandbox> {
        let mut tx = self.db.begin().await?;
        let quotas = lock_quotas(&mut tx, tenant).await?;
        let slots = lock_slots(&mut tx, node).await?;
        let load = Load::read(&mut tx, tenant, node).await?;
        load.check_quota(quotas)?;
        let place = node.filter(|_| !load.queue && load.on_node < slots);
        let lineage = Lineage::root(new.id);
        let sandbox = insert(&mut tx, tenant, new, place, lineage, at).await?;
        tx.commit().await?;
        Ok(sandbox)
    }

    /// Inserts a fork of a running sandbox, `provisioning` on its parent's node. The parent's count of forks rises when the child first runs;
    /// until then a child that is being made counts against the limit all the same.
    pub async fn fork_sandbox(
        &self,
        tenant: &Tenant,
        parent: SandboxId,
        fork: NewFork,
        at: Timestamp,
    ) -> Result<Sandbox> {
        let mut tx = self.db.begin().await?;
        let quotas = lock_quotas(&mut tx, tenant).await?;
        let parent = lock_parent(&mut tx, tenant, parent).await?;
        let slots = lock_slots(&mut tx, parent.node_id).await?;
        let load = Load::read(&mut tx, tenant, parent.node_id).await?;
        load.check_quota(quotas)?;
        check_fork(&mut tx, &parent, quotas).await?;
        if load.on_node >= slots {
            return Err(StoreError::NoCapacity);
        }
        let lineage = Lineage {
            parent: Some(parent.id),
            root: parent.fork_root,
            depth: parent.fork_depth + 1,
        };
        let node = parent.node_id;
        let child = insert(&mut tx, tenant, fork.of(parent), node, lineage, at).await?;
        tx.commit().await?;
        Ok(child)
    }
}

impl NewFork {
    fn of(self, parent: Sandbox) -> NewSandbox {
        let mut env_names = parent.env_names;
        env_names.extend(self.env_names);
        env_names.sort();
        env_names.dedup();
        let mut metadata = parent.metadata;
        metadata.extend(self.metadata);
        NewSandbox {
            id: self.id,
            name: self.name,
            project: parent.project,
            region: parent.region,
            image: parent.image,
            profile: parent.profile,
            resources: parent.resources,
            wanted: parent.wanted,
            network: parent.network,
            metadata,
            env_names,
            ttl_seconds: self.ttl_seconds.unwrap_or(parent.ttl_seconds),
            idle_seconds: parent.idle_seconds,
            on_timeout: parent.on_timeout,
            queue_timeout_seconds: parent.queue_timeout_seconds,
        }
    }
}

/// Where a sandbox stands in its tree of forks.
struct Lineage {
    parent: Option<SandboxId>,
    root: SandboxId,
    depth: u32,
}

impl Lineage {
    const fn root(id: SandboxId) -> Self {
        Self {
            parent: None,
            root: id,
            depth: 0,
        }
    }
}

/// How full everything is. Read by one statement, after the locks were taken: nobody else adds to it until the transaction ends.
struct Load {
    of_org: i64,
    on_node: i64,
    /// Somebody waits for a place.
    queue: bool,
}

impl Load {
    async fn read(tx: &mut Tx, tenant: &Tenant, node: Option<NodeId>) -> Result<Self> {
        let counts = tx
            .row(
                sql("SELECT (SELECT COUNT(*) FROM sandboxes WHERE org_id = $1 AND state IN \
                     ('queued', 'provisioning', 'running', 'paused', 'stopping', 'missing')) AS of_org, \
                     (SELECT COUNT(*) FROM sandboxes WHERE node_id = $2 AND state IN \
                     ('provisioning', 'running', 'paused', 'stopping', 'missing')) AS on_node, \
                     (SELECT COUNT(*) FROM (SELECT 1 FROM sandboxes WHERE state = 'queued' LIMIT 1) \
                     AS first) AS queued")
                .bind(tenant.org())
                .bind(node),
            )
            .await?
            .ok_or(StoreError::Statement(sqlx::Error::RowNotFound))?;
        Ok(Self {
            of_org: counts.get("of_org")?,
            on_node: counts.get("on_node")?,
            queue: counts.get::<i64>("queued")? > 0,
        })
    }

    /// Refuses one more than the quota.
    fn check_quota(&self, quotas: Quotas) -> Result<()> {
        let limit = quotas.max_concurrent_sandboxes;
        if self.of_org >= i64::from(limit) {
            return Err(StoreError::Quota { limit });
        }
        Ok(())
    }
}

/// The slots of a node, none unless it is online. It stays locked until the transaction ends.
async fn lock_slots(tx: &mut Tx, node: Option<NodeId>) -> Result<i64> {
    let Some(node) = node else { return Ok(0) };
    let select = sql("SELECT slots_total FROM nodes WHERE id = $1 AND state = 'online'").bind(node);
    let row = tx.row(select.for_update()).await?;
    row.map_or(Ok(0), |row| row.get("slots_total"))
}

/// Whether an online node has a slot that nobody holds. The node stays locked until the transaction ends.
pub(crate) async fn has_free_slot(tx: &mut Tx, node: NodeId) -> Result<bool> {
    let slots = lock_slots(tx, Some(node)).await?;
    let held = count(
        tx,
        sql(
            "SELECT COUNT(*) AS n FROM sandboxes WHERE node_id = $1 AND state IN \
             ('provisioning', 'running', 'paused', 'stopping', 'missing')",
        )
        .bind(node),
    )
    .await?;
    Ok(held < slots)
}

async fn lock_parent(tx: &mut Tx, tenant: &Tenant, parent: SandboxId) -> Result<Sandbox> {
    let row = tx
        .row(
            sql("SELECT * FROM sandboxes WHERE org_id = $1 AND id = $2")
                .bind(tenant.org())
                .bind(parent)
                .for_update(),
        )
        .await?
        .ok_or_else(|| StoreError::NotFound(parent.to_string()))?;
    let parent = Sandbox::read(&row)?;
    if parent.state != SandboxState::Running {
        return Err(StoreError::NotRunning(parent.state));
    }
    Ok(parent)
}

async fn check_fork(tx: &mut Tx, parent: &Sandbox, quotas: Quotas) -> Result<()> {
    if parent.fork_depth >= quotas.max_fork_depth {
        return Err(StoreError::ForkDepth {
            limit: quotas.max_fork_depth,
        });
    }
    let being_made = count(
        tx,
        sql(
            "SELECT COUNT(*) AS n FROM sandboxes WHERE forked_from = $1 AND started_at IS NULL \
             AND state IN ('provisioning', 'missing')",
        )
        .bind(parent.id),
    )
    .await?;
    if i64::from(parent.fork_count) + being_made >= i64::from(quotas.max_forks_per_sandbox) {
        return Err(StoreError::ForkLimit {
            limit: quotas.max_forks_per_sandbox,
        });
    }
    Ok(())
}

async fn count(tx: &mut Tx, sql: Sql) -> Result<i64> {
    tx.row(sql).await?.map_or(Ok(0), |row| row.get("n"))
}

async fn insert(
    tx: &mut Tx,
    tenant: &Tenant,
    new: NewSandbox,
    node: Option<NodeId>,
    lineage: Lineage,
    at: Timestamp,
) -> Result<Sandbox> {
    let (state, queued_at) = match node {
        Some(_) => (SandboxState::Provisioning, None),
        None => (SandboxState::Queued, Some(at)),
    };
    let row = tx
        .row(
            sql("INSERT INTO sandboxes (id, org_id, node_id, name, project, region, image, profile, vcpus, \
                 memory_mb, disk_mb, pids, wanted_driver, wanted_isolation, wanted_privilege, network, \
                 state, metadata, env_names, forked_from, fork_root, fork_depth, fork_count, ttl_seconds, \
                 idle_seconds, on_timeout, ttl_warned, last_active_at, queue_timeout_seconds, queued_at, \
                 created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
                 $18, $19, $20, $21, $22, 0, $23, $24, $25, FALSE, $26, $27, $28, $26, $26) RETURNING *")
            .bind(new.id)
            .bind(tenant.org())
            .bind(node)
            .bind(new.name.clone())
            .bind(new.project)
            .bind(new.region)
            .bind(new.image)
            .bind(new.profile)
            .bind(new.resources.vcpus)
            .bind(new.resources.memory_mb)
            .bind(new.resources.disk_mb)
            .bind(new.resources.pids)
            .bind(new.wanted.driver)
            .bind(new.wanted.isolation)
            .bind(new.wanted.privilege)
            .bind(new.network)
            .bind(state)
            .bind(serde_json::json!(new.metadata))
            .bind(serde_json::json!(new.env_names))
            .bind(lineage.parent)
            .bind(lineage.root)
            .bind(lineage.depth)
            .bind(new.ttl_seconds)
            .bind(new.idle_seconds)
            .bind(new.on_timeout)
            .bind(at)
            .bind(new.queue_timeout_seconds)
            .bind(queued_at),
        )
        .await
        .map_err(|error| error.or_name_taken(new.name))?;
    Sandbox::read(&row.ok_or(StoreError::Statement(sqlx::Error::RowNotFound))?)
}
