//! Layers: snapshots that builds took, found by what led to them. People do not see them among their snapshots.

use jiff::Timestamp;
use skerry_types::{OrgId, SnapshotId};

use crate::Store;
use crate::builds::Defaults;
use crate::context::{System, Tenant};
use crate::error::Result;
use crate::snapshots::Snapshot;
use crate::sql::sql;

impl Store {
    /// Says what a snapshot that is about to be taken will be. One that is then not taken is forgotten after a while.
    pub async fn begin_layer(
        &self,
        tenant: &Tenant,
        snapshot: SnapshotId,
        key: [u8; 32],
        defaults: &Defaults,
        at: Timestamp,
    ) -> Result<()> {
        let insert = sql(
            "INSERT INTO layers (snapshot_id, org_id, layer_key, defaults, used_at) \
             VALUES ($1, $2, $3, $4, $5)",
        );
        let insert = insert.bind(snapshot).bind(tenant.org()).bind(key);
        self.db
            .run(insert.bind(serde_json::json!(defaults)).bind(at))
            .await?;
        Ok(())
    }

    /// The newest snapshot that all this led to, and what it gives. It is thereby used.
    pub async fn use_layer(
        &self,
        tenant: &Tenant,
        key: [u8; 32],
        at: Timestamp,
    ) -> Result<Option<(Snapshot, Defaults)>> {
        let select = sql(
            "SELECT snapshots.*, layers.defaults FROM layers JOIN snapshots ON snapshots.id = layers.snapshot_id \
             WHERE layers.org_id = $1 AND layer_key = $2 AND ready_at IS NOT NULL ORDER BY id DESC LIMIT 1",
        );
        let row = self.db.row(select.bind(tenant.org()).bind(key)).await?;
        let Some(row) = row else { return Ok(None) };
        let found = Snapshot::read(&row)?;
        let defaults = row.json("defaults")?;
        let update = sql("UPDATE layers SET used_at = $3 WHERE org_id = $1 AND snapshot_id = $2");
        self.db
            .run(update.bind(tenant.org()).bind(found.id).bind(at))
            .await?;
        Ok(Some((found, defaults)))
    }

    /// Whether a snapshot was taken by a build.
    pub async fn is_layer(&self, tenant: &Tenant, snapshot: SnapshotId) -> Result<bool> {
        let select = sql("SELECT 1 AS one FROM layers WHERE org_id = $1 AND snapshot_id = $2");
        let row = self
            .db
            .row(select.bind(tenant.org()).bind(snapshot))
            .await?;
        Ok(row.is_some())
    }

    /// Layers of all orgs that no tag stands for, nothing is being made from, and nobody used since `before`; beyond the `keep` that an org
    /// used last, also those used since. What was never taken is forgotten.
    pub async fn superfluous_layers(
        &self,
        _: &System,
        keep: u32,
        before: Timestamp,
    ) -> Result<Vec<(OrgId, Snapshot)>> {
        let forget = sql(
            "DELETE FROM layers WHERE used_at < $1 AND snapshot_id NOT IN (SELECT id FROM snapshots)",
        );
        self.db.run(forget.bind(before)).await?;
        let select = sql("SELECT snapshots.* FROM (SELECT snapshot_id, used_at, \
             ROW_NUMBER() OVER (PARTITION BY org_id ORDER BY used_at DESC, snapshot_id DESC) AS place FROM layers \
             WHERE snapshot_id NOT IN (SELECT builds.snapshot_id FROM template_tags \
             JOIN builds ON builds.id = template_tags.build_id WHERE builds.snapshot_id IS NOT NULL)) AS loose \
             JOIN snapshots ON snapshots.id = loose.snapshot_id \
             WHERE ready_at IS NOT NULL AND (used_at < $1 OR place > $2)");
        let rows = self.db.rows(select.bind(before).bind(keep)).await?;
        let read = |row| Snapshot::read(row).map(|snapshot| (snapshot.org_id, snapshot));
        rows.iter().map(read).collect()
    }
}
