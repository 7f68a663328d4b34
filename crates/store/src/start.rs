//! Starting sandboxes again that have ended: within the quota, under their name, and in a free slot of the node that has their files.

use jiff::Timestamp;
use skerry_types::{Action, SandboxId, SandboxState, state};

use crate::Store;
use crate::context::Tenant;
use crate::create::{count, has_free_slot};
use crate::error::{Result, StoreError};
use crate::orgs::lock_quotas;
use crate::sandbox::Sandbox;
use crate::sandboxes::one;
use crate::sql::{Sql, sql};

impl Store {
    /// Lets one that has ended begin again: it is `provisioning` on its node, and why it ended is forgotten. Its age limit counts anew once it runs.
    pub async fn start_sandbox(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        at: Timestamp,
    ) -> Result<Sandbox> {
        let mut tx = self.db.begin().await?;
        let quotas = lock_quotas(&mut tx, tenant).await?;
        let found = tx.row(one(tenant, id).for_update()).await?;
        let before = Sandbox::read(&found.ok_or_else(|| StoreError::NotFound(id.to_string()))?)?;
        let to = state::next(before.state, Action::Start)?;
        if to == before.state {
            return Ok(before);
        }
        let node = before.node_id.filter(|_| before.started_at.is_some());
        let node = node.ok_or(StoreError::NeverRan)?;
        let living =
            sql("SELECT COUNT(*) AS n FROM sandboxes WHERE org_id = $1 AND ended_at IS NULL");
        if count(&mut tx, living.bind(tenant.org())).await?
            >= quotas.max_concurrent_sandboxes.into()
        {
            return Err(StoreError::Quota {
                limit: quotas.max_concurrent_sandboxes,
            });
        }
        if !has_free_slot(&mut tx, node).await? {
            return Err(StoreError::NoCapacity);
        }
        let begun = tx.row(begin_again(tenant, id, to, at)).await;
        let row = begun
            .map_err(|error| error.or_name_taken(before.name.as_deref()))?
            .ok_or(StoreError::Contended)?;
        tx.commit().await?;
        Sandbox::read(&row)
    }
}

fn begin_again(tenant: &Tenant, id: SandboxId, to: SandboxState, at: Timestamp) -> Sql {
    sql(
        "UPDATE sandboxes SET state = $3, updated_at = $4, last_active_at = $4, ended_at = NULL, \
         failure_reason = NULL, failure_message = NULL, expires_at = NULL, ttl_warned = FALSE, \
         resumed_at = NULL WHERE org_id = $1 AND id = $2 RETURNING *",
    )
    .bind(tenant.org())
    .bind(id)
    .bind(to)
    .bind(at)
}
