//! Volumes: on record before their node has them and until it has them no more.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{NodeId, OrgId, SandboxId, VolumeId, limits};

use crate::Store;
use crate::context::{System, Tenant};
use crate::error::{Result, StoreError};
use crate::orgs::select_quotas;
use crate::page::{Cursor, Page};
use crate::sql::{Row, sql};

/// A folder that outlives sandboxes, as control remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Which.
    pub id: VolumeId,
    /// Whose.
    pub org_id: OrgId,
    /// What people call it; no other of its org has the same.
    pub name: String,
    /// Where it is.
    pub node_id: NodeId,
    /// What it may hold, in MiB.
    pub size_mb: u32,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Since when nobody may use it, if it is being removed.
    pub removed_at: Option<Timestamp>,
}

/// A volume that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// Its id.
    pub id: VolumeId,
    /// Its name.
    pub name: String,
    /// Where it shall be.
    pub node_id: NodeId,
    /// What it may hold, in MiB.
    pub size_mb: u32,
}

/// A volume in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// Which.
    pub volume: VolumeId,
    /// Its name.
    pub name: String,
    /// Where inside, an absolute path.
    pub path: String,
}

impl Volume {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: VolumeId::from_uuid(row.get("id")?),
            org_id: OrgId::from_uuid(row.get("org_id")?),
            name: row.get("name")?,
            node_id: NodeId::from_uuid(row.get("node_id")?),
            size_mb: row.count("size_mb")?,
            created_at: row.time("created_at")?,
            removed_at: row.time_opt("removed_at")?,
        })
    }
}

impl Store {
    /// Puts a volume on record. A name that another has: volume name taken; too many, or together larger than they may be: volume limit, volume space.
    pub async fn create_volume(
        &self,
        tenant: &Tenant,
        new: NewVolume,
        at: Timestamp,
    ) -> Result<Volume> {
        let insert = sql(
            "INSERT INTO volumes (id, org_id, name, node_id, size_mb, created_at) \
             SELECT $1, $2, $3, $4, $5, $6 \
             WHERE (SELECT COUNT(*) FROM volumes WHERE org_id = $2) < $7 \
             AND (SELECT COALESCE(SUM(size_mb), 0) FROM volumes WHERE org_id = $2) + $5 <= \
             (SELECT max_volume_mb FROM org_quotas WHERE org_id = $2) RETURNING *",
        )
        .bind(new.id)
        .bind(tenant.org())
        .bind(new.name.as_str())
        .bind(new.node_id)
        .bind(new.size_mb)
        .bind(at)
        .bind(limits::MAX_VOLUMES);
        // Counted while no other of this org is.
        let row = self
            .db
            .change_alone(vec![select_quotas(tenant)], insert)
            .await;
        let row = row.map_err(|error| match error.or_name_taken(Some(&new.name)) {
            StoreError::NameTaken(name) => StoreError::VolumeNameTaken(name),
            other => other,
        })?;
        match row {
            Some(row) => Volume::read(&row),
            None => Err(self.why_no_volume(tenant).await?),
        }
    }

    async fn why_no_volume(&self, tenant: &Tenant) -> Result<StoreError> {
        let quotas = self.quotas(tenant).await?;
        let count = sql("SELECT COUNT(*) AS n FROM volumes WHERE org_id = $1").bind(tenant.org());
        let row = self.db.row(count).await?;
        let there: i64 = row.map_or(Ok(0), |row| row.get("n"))?;
        Ok(if there >= i64::from(limits::MAX_VOLUMES) {
            StoreError::VolumeLimit {
                limit: limits::MAX_VOLUMES,
            }
        } else {
            StoreError::VolumeSpace {
                limit_mb: quotas.max_volume_mb,
            }
        })
    }

    /// One that may be used, by id.
    pub async fn volume(&self, tenant: &Tenant, id: VolumeId) -> Result<Option<Volume>> {
        let select =
            sql("SELECT * FROM volumes WHERE org_id = $1 AND id = $2 AND removed_at IS NULL");
        let row = self.db.row(select.bind(tenant.org()).bind(id)).await?;
        row.as_ref().map(Volume::read).transpose()
    }

    /// One that may be used, whoever's it is.
    pub async fn volume_of_any_org(&self, _: &System, id: VolumeId) -> Result<Option<Volume>> {
        let select = sql("SELECT * FROM volumes WHERE id = $1 AND removed_at IS NULL").bind(id);
        let row = self.db.row(select).await?;
        row.as_ref().map(Volume::read).transpose()
    }

    /// One that may be used, by name.
    pub async fn volume_named(&self, tenant: &Tenant, name: &str) -> Result<Option<Volume>> {
        let select =
            sql("SELECT * FROM volumes WHERE org_id = $1 AND name = $2 AND removed_at IS NULL");
        let row = self.db.row(select.bind(tenant.org()).bind(name)).await?;
        row.as_ref().map(Volume::read).transpose()
    }

    /// A page of those that may be used, newest first.
    pub async fn volumes(
        &self,
        tenant: &Tenant,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<Volume>> {
        let limit = limit.clamp(1, limits::MAX_PAGE);
        let mut select = sql("SELECT * FROM volumes WHERE org_id = $1 AND removed_at IS NULL")
            .bind(tenant.org());
        if let Some(cursor) = cursor {
            select = select.push(" AND id < ").push_bind(cursor);
        }
        let select = select.push(" ORDER BY id DESC LIMIT ").push_bind(limit + 1);
        let rows = self.db.rows(select).await?;
        let items: Result<Vec<_>> = rows.iter().map(Volume::read).collect();
        Ok(Page::cut(items?, limit, |volume| volume.id.uuid()))
    }

    /// Sandboxes that have it and are not deleted, at most so many.
    pub async fn volume_users(
        &self,
        tenant: &Tenant,
        id: VolumeId,
        most: u32,
    ) -> Result<Vec<SandboxId>> {
        let select = sql(
            "SELECT id FROM sandboxes WHERE org_id = $1 AND state <> 'deleted' \
             AND CAST(volumes AS TEXT) LIKE $2 ORDER BY id LIMIT $3",
        )
        .bind(tenant.org())
        .bind(format!("%\"{id}\"%"))
        .bind(most);
        let rows = self.db.rows(select).await?;
        rows.iter()
            .map(|row| row.get("id").map(SandboxId::from_uuid))
            .collect()
    }

    /// From now on nobody may use it. Its node still has it, and it counts until it is forgotten.
    pub async fn retire_volume(&self, tenant: &Tenant, id: VolumeId, at: Timestamp) -> Result<()> {
        let update = sql("UPDATE volumes SET removed_at = $3 WHERE org_id = $1 AND id = $2");
        self.db
            .run(update.bind(tenant.org()).bind(id).bind(at))
            .await?;
        Ok(())
    }

    /// Takes it off the record. One that is not there is fine.
    pub async fn forget_volume(&self, tenant: &Tenant, id: VolumeId) -> Result<()> {
        let delete = sql("DELETE FROM volumes WHERE org_id = $1 AND id = $2");
        self.db.run(delete.bind(tenant.org()).bind(id)).await?;
        Ok(())
    }

    /// Everything that a node should have or is to remove, of every org.
    pub async fn volumes_on(&self, _: &System, node: NodeId) -> Result<Vec<Volume>> {
        let select = sql("SELECT * FROM volumes WHERE node_id = $1 ORDER BY id").bind(node);
        let rows = self.db.rows(select).await?;
        rows.iter().map(Volume::read).collect()
    }
}
