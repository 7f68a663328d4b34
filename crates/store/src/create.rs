//! New sandboxes: made from nothing, or forked. Quota and slots are checked by the very statement that inserts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use skerry_types::{Egress, NodeId, Profile, Resources, SandboxId, SandboxState};

use crate::Store;
use crate::context::Tenant;
use crate::db::Tx;
use crate::error::{Result, StoreError};
use crate::orgs::{Quotas, lock_quotas, select_quotas};
use crate::sandbox::{Facts, Network, OnTimeout, Sandbox, Wanted};
use crate::sql::{Row, Sql, sql};
use crate::volumes::Mounted;

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
    /// The name of the template that this is of.
    pub template: Option<String>,
    /// The named size.
    pub profile: Option<Profile>,
    /// What it may use at most.
    pub resources: Resources,
    /// What is asked of its isolation.
    pub wanted: Wanted,
    /// What it reaches.
    pub network: Network,
    /// Where it may connect.
    pub egress: Egress,
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
    /// What happens when it was unused for too long, where that differs.
    pub on_idle: Option<OnTimeout>,
    /// Paused, it wakes up when it is used.
    pub auto_resume: bool,
    /// Paused, its age limit does not count.
    pub keep_paused: bool,
    /// Its ports are reached without a key.
    pub public_ports: bool,
    /// Its ports to publish on its node.
    pub ports: Vec<u16>,
    /// Volumes that it has.
    pub volumes: Vec<Mounted>,
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
        let mut sandbox = new.at(tenant, Lineage::Root, at);
        let mut locks = vec![select_quotas(tenant)];
        locks.extend(node.map(select_slots));
        let insert = admit(&sandbox, node, Overtakes::Nobody);
        let admitted = self.db.change_alone(locks, insert).await;
        match admitted.map_err(|error| error.or_name_taken(sandbox.name.as_deref()))? {
            Some(row) => sandbox.settle(&row, node).map(|()| sandbox),
            None => Err(StoreError::Quota {
                limit: self.quotas(tenant).await?.max_concurrent_sandboxes,
            }),
        }
    }

    /// Inserts a fork of a running sandbox.
    pub async fn fork_sandbox(
        &self,
        tenant: &Tenant,
        parent: SandboxId,
        fork: NewFork,
        at: Timestamp,
    ) -> Result<Sandbox> {
        let mut forks = self.fork_sandboxes(tenant, parent, vec![fork], at).await?;
        forks.pop().ok_or(StoreError::NoCapacity)
    }

    /// Inserts forks of a running sandbox, `provisioning` on its parent's node: all of them, or none. The parent's count of forks rises when a
    /// child first runs; until then a child that is being made counts against the limit all the same.
    pub async fn fork_sandboxes(
        &self,
        tenant: &Tenant,
        parent: SandboxId,
        forks: Vec<NewFork>,
        at: Timestamp,
    ) -> Result<Vec<Sandbox>> {
        let mut tx = self.db.begin().await?;
        let quotas = lock_quotas(&mut tx, tenant).await?;
        let parent = lock_parent(&mut tx, tenant, parent).await?;
        if let Some(node) = parent.node_id {
            tx.row(select_slots(node).for_update()).await?;
        }
        let mut children = Vec::with_capacity(forks.len());
        for fork in forks {
            check_fork(&mut tx, &parent, quotas).await?;
            children.push(insert_fork(&mut tx, tenant, &parent, fork, quotas, at).await?);
        }
        tx.commit().await?;
        Ok(children)
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
            template: parent.template,
            profile: parent.profile,
            resources: parent.resources,
            wanted: parent.wanted,
            network: parent.network,
            egress: parent.egress,
            metadata,
            env_names,
            ttl_seconds: self.ttl_seconds.unwrap_or(parent.ttl_seconds),
            idle_seconds: parent.idle_seconds,
            on_timeout: parent.on_timeout,
            on_idle: parent.on_idle,
            auto_resume: parent.auto_resume,
            keep_paused: parent.keep_paused,
            public_ports: parent.public_ports,
            // Those of the node belong to one sandbox.
            ports: Vec::new(),
            volumes: parent.volumes,
            queue_timeout_seconds: parent.queue_timeout_seconds,
        }
    }
}

/// Where a sandbox stands in its tree of forks.
#[derive(Clone, Copy)]
enum Lineage {
    Root,
    Fork {
        parent: SandboxId,
        root: SandboxId,
        depth: u32,
    },
}

impl NewSandbox {
    /// The row that is to be, as far as it is known before its place is.
    fn at(self, tenant: &Tenant, lineage: Lineage, at: Timestamp) -> Sandbox {
        // What is returned must be what would be read, and microseconds are stored.
        let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        let (forked_from, fork_root, fork_depth) = match lineage {
            Lineage::Root => (None, self.id, 0),
            Lineage::Fork {
                parent,
                root,
                depth,
            } => (Some(parent), root, depth),
        };
        Sandbox {
            id: self.id,
            org_id: tenant.org(),
            node_id: None,
            name: self.name,
            project: self.project,
            region: self.region,
            image: self.image,
            template: self.template,
            profile: self.profile,
            resources: self.resources,
            network: self.network,
            egress: self.egress,
            wanted: self.wanted,
            facts: Facts::default(),
            state: SandboxState::Queued,
            failure_reason: None,
            failure_message: None,
            metadata: self.metadata,
            env_names: self.env_names,
            forked_from,
            fork_root,
            fork_depth,
            fork_count: 0,
            ttl_seconds: self.ttl_seconds,
            idle_seconds: self.idle_seconds,
            on_timeout: self.on_timeout,
            on_idle: self.on_idle,
            auto_resume: self.auto_resume,
            keep_paused: self.keep_paused,
            public_ports: self.public_ports,
            ports: self.ports,
            volumes: self.volumes,
            expires_at: None,
            ttl_warned: false,
            last_active_at: at,
            queue_timeout_seconds: self.queue_timeout_seconds,
            queued_at: Some(at),
            created_at: at,
            started_at: None,
            resumed_at: None,
            ended_at: None,
            deleted_at: None,
            updated_at: at,
        }
    }
}

impl Sandbox {
    /// Takes over what the database decided: a place, or to wait for one.
    fn settle(&mut self, row: &Row, node: Option<NodeId>) -> Result<()> {
        self.state = row.word("state", SandboxState::from_name)?;
        if self.state == SandboxState::Provisioning {
            self.node_id = node;
            self.queued_at = None;
        }
        Ok(())
    }
}

/// The slots of a node, none unless it is online.
fn select_slots(node: NodeId) -> Sql {
    sql("SELECT slots_total FROM nodes WHERE id = $1 AND state = 'online'").bind(node)
}

/// Whether an online node has a slot that nobody holds. The node stays locked until the transaction ends.
pub(crate) async fn has_free_slot(tx: &mut Tx, node: NodeId) -> Result<bool> {
    let slots = match tx.row(select_slots(node).for_update()).await? {
        Some(row) => row.get("slots_total")?,
        None => 0,
    };
    let held = count(
        tx,
        sql("SELECT COUNT(*) AS n FROM sandboxes WHERE node_id = $1 AND ended_at IS NULL")
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

async fn insert_fork(
    tx: &mut Tx,
    tenant: &Tenant,
    parent: &Sandbox,
    fork: NewFork,
    quotas: Quotas,
    at: Timestamp,
) -> Result<Sandbox> {
    let node = parent.node_id;
    let lineage = Lineage::Fork {
        root: parent.fork_root,
        parent: parent.id,
        depth: parent.fork_depth + 1,
    };
    let mut child = fork.of(parent.clone()).at(tenant, lineage, at);
    let admitted = tx.row(admit(&child, node, Overtakes::TheQueue)).await;
    let row = admitted
        .map_err(|error| error.or_name_taken(child.name.as_deref()))?
        .ok_or(StoreError::Quota {
            limit: quotas.max_concurrent_sandboxes,
        })?;
    child.settle(&row, node)?;
    if child.state == SandboxState::Queued {
        return Err(StoreError::NoCapacity);
    }
    Ok(child)
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

/// The number `n` that it asks for.
pub(crate) async fn count(tx: &mut Tx, sql: Sql) -> Result<i64> {
    tx.row(sql).await?.map_or(Ok(0), |row| row.get("n"))
}

/// Whether a new sandbox takes a free slot while others wait for one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overtakes {
    Nobody,
    /// A fork can be nowhere but beside its parent, now.
    TheQueue,
}

/// Inserts a row if the org may have one more: `provisioning` if the node has a free slot for it, else `queued`. Returns the state.
///
/// Nothing that it counts may grow meanwhile, so the quota's row and the node's are locked by then.
fn admit(new: &Sandbox, node: Option<NodeId>, overtakes: Overtakes) -> Sql {
    sql("WITH load AS (SELECT \
         (SELECT max_concurrent_sandboxes FROM org_quotas WHERE org_id = $2) AS quota, \
         (SELECT COUNT(*) FROM sandboxes WHERE org_id = $2 AND ended_at IS NULL) AS of_org, \
         (SELECT slots_total FROM nodes WHERE id = $3 AND state = 'online') AS slots, \
         (SELECT COUNT(*) FROM sandboxes WHERE node_id = $3 AND ended_at IS NULL) AS on_node, \
         (SELECT COUNT(*) FROM (SELECT 1 FROM sandboxes WHERE state = 'queued' LIMIT 1) AS first) AS waiting), \
         place AS (SELECT on_node < slots AND (waiting = 0 OR $4) AS free FROM load WHERE of_org < quota) \
         INSERT INTO sandboxes (id, org_id, node_id, state, queued_at, name, project, region, image, profile, \
         vcpus, memory_mb, disk_mb, pids, wanted_driver, wanted_isolation, wanted_privilege, network, metadata, \
         env_names, forked_from, fork_root, fork_depth, fork_count, ttl_seconds, idle_seconds, on_timeout, \
         ttl_warned, queue_timeout_seconds, last_active_at, created_at, updated_at, on_idle, auto_resume, \
         template, keep_paused, public_ports, ports, egress, volumes) \
         SELECT $1, $2, CASE WHEN free THEN $3 END, CASE WHEN free THEN 'provisioning' ELSE 'queued' END, \
         CASE WHEN free THEN NULL ELSE $5 END, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
         $20, $21, $22, $23, 0, $24, $25, $26, FALSE, $27, $5, $5, $5, $28, $29, $30, $31, $32, $33, $34, $35 FROM place RETURNING state")
    .bind(new.id)
    .bind(new.org_id)
    .bind(node)
    .bind(overtakes == Overtakes::TheQueue)
    .bind(new.created_at)
    .bind(new.name.clone())
    .bind(new.project.clone())
    .bind(new.region.as_str())
    .bind(new.image.as_str())
    .bind(new.profile)
    .bind(new.resources.vcpus)
    .bind(new.resources.memory_mb)
    .bind(new.resources.disk_mb)
    .bind(new.resources.pids)
    .bind(new.wanted.driver.clone())
    .bind(new.wanted.isolation.clone())
    .bind(new.wanted.privilege)
    .bind(new.network)
    .bind(serde_json::json!(new.metadata))
    .bind(serde_json::json!(new.env_names))
    .bind(new.forked_from)
    .bind(new.fork_root)
    .bind(new.fork_depth)
    .bind(new.ttl_seconds)
    .bind(new.idle_seconds)
    .bind(new.on_timeout)
    .bind(new.queue_timeout_seconds)
    .bind(new.on_idle)
    .bind(new.auto_resume)
    .bind(new.template.clone())
    .bind(new.keep_paused)
    .bind(new.public_ports)
    .bind(serde_json::json!(new.ports))
    .bind(serde_json::json!(new.egress))
    .bind(serde_json::json!(new.volumes))
}
