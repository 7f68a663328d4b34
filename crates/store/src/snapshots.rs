//! Snapshots: on record before they are taken, so that whoever comes after a crash can tell what became of them.

use jiff::Timestamp;
use skerry_types::{Egress, NodeId, OrgId, Resources, SandboxId, SnapshotId, limits};

use crate::Store;
use crate::context::{System, Tenant};
use crate::error::{Result, StoreError};
use crate::orgs::{lock_quotas, select_quotas};
use crate::page::{Cursor, Page};
use crate::sandbox::{Network, Privilege, Sandbox};
use crate::sql::{Row, sql};
use crate::volumes::Mounted;

/// A sandbox frozen to disk, as control remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which.
    pub id: SnapshotId,
    /// Whose.
    pub org_id: OrgId,
    /// What people call it; no other of its org has the same.
    pub name: Option<String>,
    /// Where it is.
    pub node_id: NodeId,
    /// What it was taken of.
    pub sandbox_id: SandboxId,
    /// The image of that sandbox.
    pub image: String,
    /// The driver that can restore it.
    pub driver: String,
    /// The privilege of that sandbox, and of what is made from this.
    pub privilege: Privilege,
    /// What that sandbox reached.
    pub network: Network,
    /// Where that sandbox might connect.
    pub egress: Egress,
    /// What that sandbox could use.
    pub resources: Resources,
    /// It has memory and processes.
    pub memory: bool,
    /// What it takes on disk.
    pub bytes: u64,
    /// For how long the sandbox stood still.
    pub held_us: u64,
    /// Volumes of that sandbox.
    pub volumes: Vec<Mounted>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its node had it; `None`: it is being taken.
    pub ready_at: Option<Timestamp>,
}

/// What a node says of one that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenSnapshot {
    /// It has memory and processes.
    pub memory: bool,
    /// What it takes on disk.
    pub bytes: u64,
    /// For how long the sandbox stood still.
    pub held_us: u64,
}

impl Snapshot {
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: SnapshotId::from_uuid(row.get("id")?),
            org_id: OrgId::from_uuid(row.get("org_id")?),
            name: row.get("name")?,
            node_id: NodeId::from_uuid(row.get("node_id")?),
            sandbox_id: SandboxId::from_uuid(row.get("sandbox_id")?),
            image: row.get("image")?,
            driver: row.get("driver")?,
            privilege: row.word("privilege", Privilege::from_name)?,
            network: row.word("network", Network::from_name)?,
            egress: row.json("egress")?,
            resources: Resources {
                vcpus: row.count("vcpus")?,
                memory_mb: row.count("memory_mb")?,
                disk_mb: row.count("disk_mb")?,
                pids: row.count("pids")?,
            },
            memory: row.get("memory")?,
            bytes: row.count("bytes")?,
            held_us: row.count("held_us")?,
            volumes: row.json("volumes")?,
            created_at: row.time("created_at")?,
            ready_at: row.time_opt("ready_at")?,
        })
    }
}

impl Store {
    /// Puts on record that a snapshot of a running sandbox is being taken. A name that another has: name taken; too many, or
    /// nothing left of what they may take on disk: snapshot limit, snapshot space.
    pub async fn begin_snapshot(
        &self,
        tenant: &Tenant,
        id: SnapshotId,
        name: Option<String>,
        of: &Sandbox,
        at: Timestamp,
    ) -> Result<Snapshot> {
        let insert = sql("INSERT INTO snapshots (id, org_id, name, node_id, sandbox_id, image, driver, privilege, \
             network, vcpus, memory_mb, disk_mb, pids, memory, bytes, held_us, created_at, egress, volumes) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, FALSE, 0, 0, $14, $16, $17 \
             WHERE (SELECT COUNT(*) FROM snapshots WHERE org_id = $2) < $15 \
             AND (SELECT COALESCE(SUM(bytes), 0) FROM snapshots WHERE org_id = $2) < \
             (SELECT max_snapshot_mb * 1048576 FROM org_quotas WHERE org_id = $2) RETURNING *")
        .bind(id)
        .bind(tenant.org())
        .bind(name.clone())
        .bind(of.node_id)
        .bind(of.id)
        .bind(of.image.as_str())
        .bind(of.facts.driver.clone())
        .bind(of.facts.privilege)
        .bind(of.network)
        .bind(of.resources.vcpus)
        .bind(of.resources.memory_mb)
        .bind(of.resources.disk_mb)
        .bind(of.resources.pids)
        .bind(at)
        .bind(limits::MAX_SNAPSHOTS)
        .bind(serde_json::json!(of.egress))
        .bind(serde_json::json!(of.volumes));
        // Counted while no other of this org is.
        let row = self
            .db
            .change_alone(vec![select_quotas(tenant)], insert)
            .await;
        let row = row.map_err(|error| match error.or_name_taken(name.as_deref()) {
            StoreError::NameTaken(name) => StoreError::SnapshotNameTaken(name),
            other => other,
        })?;
        match row {
            Some(row) => Snapshot::read(&row),
            None => Err(self.why_no_snapshot(tenant).await?),
        }
    }

    async fn why_no_snapshot(&self, tenant: &Tenant) -> Result<StoreError> {
        let quotas = self.quotas(tenant).await?;
        let count = sql("SELECT COUNT(*) AS n FROM snapshots WHERE org_id = $1").bind(tenant.org());
        let row = self.db.row(count).await?;
        let there: i64 = row.map_or(Ok(0), |row| row.get("n"))?;
        Ok(if there >= i64::from(limits::MAX_SNAPSHOTS) {
            StoreError::SnapshotLimit {
                limit: limits::MAX_SNAPSHOTS,
            }
        } else {
            StoreError::SnapshotSpace {
                limit_mb: quotas.max_snapshot_mb,
            }
        })
    }

    /// Its node has it. With a name that another had, that other has none any more and is returned beside it. `None`: it was removed meanwhile.
    /// Snapshot space: with it the org's snapshots would take more than they may, and it is still on record as being taken.
    pub async fn finish_snapshot(
        &self,
        tenant: &Tenant,
        id: SnapshotId,
        taken: TakenSnapshot,
        name: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<(Snapshot, Option<SnapshotId>)>> {
        let mut tx = self.db.begin().await?;
        let quotas = lock_quotas(&mut tx, tenant).await?;
        let replaced = match name {
            Some(name) => {
                tx.row(
                    sql("UPDATE snapshots SET name = NULL WHERE org_id = $1 AND name = $2 AND id <> $3 \
                         RETURNING id")
                    .bind(tenant.org())
                    .bind(name)
                    .bind(id),
                )
                .await?
            }
            None => None,
        };
        let finish = sql(
            "UPDATE snapshots SET memory = $3, bytes = $4, held_us = $5, ready_at = $6, \
             name = COALESCE($7, name) WHERE org_id = $1 AND id = $2 RETURNING *",
        )
        .bind(tenant.org())
        .bind(id)
        .bind(taken.memory)
        .bind(i64::try_from(taken.bytes).unwrap_or(i64::MAX))
        .bind(i64::try_from(taken.held_us).unwrap_or(i64::MAX))
        .bind(at)
        .bind(name.map(str::to_owned));
        let Some(row) = tx.row(finish).await? else {
            return Ok(None);
        };
        let replaced = replaced.map(|row| row.get("id").map(SnapshotId::from_uuid));
        let replaced = replaced.transpose()?;
        // The one that is replaced goes.
        let others = sql(
            "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS n FROM snapshots \
             WHERE org_id = $1 AND id <> $2",
        )
        .bind(tenant.org())
        .bind(replaced.unwrap_or(SnapshotId::from_uuid(uuid::Uuid::nil())));
        let taken = tx.row(others).await?;
        let taken: i64 = taken.map_or(Ok(0), |row| row.get("n"))?;
        if taken > i64::from(quotas.max_snapshot_mb) * 1024 * 1024 {
            return Err(StoreError::SnapshotSpace {
                limit_mb: quotas.max_snapshot_mb,
            });
        }
        tx.commit().await?;
        // One that is on no record would be taken away from the node.
        self.db.harden().await?;
        Ok(Some((Snapshot::read(&row)?, replaced)))
    }

    /// Takes it off the record. One that is not there is fine.
    pub async fn forget_snapshot(&self, tenant: &Tenant, id: SnapshotId) -> Result<()> {
        self.db
            .run(
                sql("DELETE FROM snapshots WHERE org_id = $1 AND id = $2")
                    .bind(tenant.org())
                    .bind(id),
            )
            .await?;
        Ok(())
    }

    /// One that is ready, by id.
    pub async fn snapshot(&self, tenant: &Tenant, id: SnapshotId) -> Result<Option<Snapshot>> {
        let row = self
            .db
            .row(
                sql("SELECT * FROM snapshots WHERE org_id = $1 AND id = $2 AND ready_at IS NOT NULL")
                    .bind(tenant.org())
                    .bind(id),
            )
            .await?;
        row.as_ref().map(Snapshot::read).transpose()
    }

    /// One that is ready, by name.
    pub async fn snapshot_named(&self, tenant: &Tenant, name: &str) -> Result<Option<Snapshot>> {
        let row = self
            .db
            .row(
                sql("SELECT * FROM snapshots WHERE org_id = $1 AND name = $2 AND ready_at IS NOT NULL")
                    .bind(tenant.org())
                    .bind(name),
            )
            .await?;
        row.as_ref().map(Snapshot::read).transpose()
    }

    /// A page of those that are ready and that no build took, newest first; of one sandbox only, if that is given.
    pub async fn snapshots(
        &self,
        tenant: &Tenant,
        sandbox: Option<SandboxId>,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<Snapshot>> {
        let limit = limit.clamp(1, limits::MAX_PAGE);
        let mut select = sql(
            "SELECT * FROM snapshots WHERE org_id = $1 AND ready_at IS NOT NULL \
             AND id NOT IN (SELECT snapshot_id FROM layers)",
        )
        .bind(tenant.org());
        if let Some(sandbox) = sandbox {
            select = select.push(" AND sandbox_id = ").push_bind(sandbox);
        }
        if let Some(cursor) = cursor {
            select = select.push(" AND id < ").push_bind(cursor);
        }
        let select = select.push(" ORDER BY id DESC LIMIT ").push_bind(limit + 1);
        let rows = self.db.rows(select).await?;
        let items: Result<Vec<_>> = rows.iter().map(Snapshot::read).collect();
        Ok(Page::cut(items?, limit, |snapshot| snapshot.id.uuid()))
    }

    /// Everything that a node should have or was asked to take, of every org.
    pub async fn snapshots_on(&self, _: &System, node: NodeId) -> Result<Vec<Snapshot>> {
        let rows = self
            .db
            .rows(sql("SELECT * FROM snapshots WHERE node_id = $1 ORDER BY id").bind(node))
            .await?;
        rows.iter().map(Snapshot::read).collect()
    }
}
