//! The queue of sandboxes that wait for a slot, first come first served over all orgs.

use jiff::Timestamp;
use skerry_types::{NodeId, SandboxId};

use crate::Store;
use crate::context::{System, Tenant};
use crate::create::has_free_slot;
use crate::error::Result;
use crate::sandbox::Sandbox;
use crate::sql::sql;

impl Store {
    /// Gives the sandbox that has waited longest a slot on this node, if one is free: it is `provisioning` then.
    pub async fn claim_queued(
        &self,
        _: &System,
        node: NodeId,
        at: Timestamp,
    ) -> Result<Option<Sandbox>> {
        let mut tx = self.db.begin().await?;
        if !has_free_slot(&mut tx, node).await? {
            return Ok(None);
        }
        let Some(first) = tx
            .row(
                sql("SELECT id FROM sandboxes WHERE state = 'queued' ORDER BY queued_at, id LIMIT 1")
                    .for_update_skip_locked(),
            )
            .await?
        else {
            return Ok(None);
        };
        let row = tx
            .row(
                sql(
                    "UPDATE sandboxes SET state = 'provisioning', node_id = $2, updated_at = $3 \
                     WHERE id = $1 AND state = 'queued' RETURNING *",
                )
                .bind(SandboxId::from_uuid(first.get("id")?))
                .bind(node)
                .bind(at),
            )
            .await?;
        tx.commit().await?;
        row.as_ref().map(Sandbox::read).transpose()
    }

    /// Every sandbox that waits for a slot, the longest first.
    pub async fn queued(&self, _: &System) -> Result<Vec<Sandbox>> {
        self.list(sql(
            "SELECT * FROM sandboxes WHERE state = 'queued' ORDER BY queued_at, id",
        ))
        .await
    }

    /// The place of a waiting sandbox in the queue, from 1; none if it does not wait. Others' sandboxes are counted, never shown.
    pub async fn queue_position(&self, tenant: &Tenant, id: SandboxId) -> Result<Option<u32>> {
        let row = self
            .db
            .row(
                sql(
                    "SELECT (SELECT COUNT(*) FROM sandboxes AS other WHERE other.state = 'queued' \
                     AND (other.queued_at < mine.queued_at \
                     OR (other.queued_at = mine.queued_at AND other.id <= mine.id))) AS n \
                     FROM sandboxes AS mine \
                     WHERE mine.org_id = $1 AND mine.id = $2 AND mine.state = 'queued'",
                )
                .bind(tenant.org())
                .bind(id),
            )
            .await?;
        row.map(|row| row.count("n")).transpose()
    }
}
