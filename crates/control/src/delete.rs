//! Deleting: from every state, and done only when its node has nothing left of it.

use skerry_store::{Change, Sandbox as Row, StoreError, Tenant};
use skerry_types::{Action, ErrorCode, FailureReason, Result, SandboxId, SandboxState};

use crate::{Caller, Control, Sandbox};

impl Control {
    /// Deletes it, from every state; returns when nothing of it is left on its node.
    ///
    /// On a node that cannot be reached it is removed as soon as that comes back. What could not be removed, or was not by the time that this
    /// server died, is tried again until it is gone.
    pub async fn delete(&self, caller: &Caller, id: SandboxId) -> Result<Sandbox> {
        // Before the turn: how long others take with it is nothing for a stranger.
        self.known(&caller.tenant, id).await?;
        let (control, tenant) = (self.clone(), caller.tenant);
        let reason = FailureReason::SandboxDeleted;
        let row = self
            .detached(async move {
                // Of many who delete it the first does it, and the others see what came of that.
                let _turn = control.0.deleting.take(id).await;
                control.remove(&tenant, id, reason).await
            })
            .await?;
        Ok(self.view(row))
    }

    /// Puts on record that it is to go, removes it from its node, then puts that on record.
    pub(crate) async fn remove(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        reason: FailureReason,
    ) -> Result<Row> {
        let row = self.known(tenant, id).await?;
        if row.state == SandboxState::Deleted {
            return Ok(row);
        }
        let change = Change {
            reason: Some(reason).filter(|_| !row.state.is_ended()),
            ..Change::default()
        };
        let row = if row.state == SandboxState::Queued {
            // No queued sandbox gets its place while this looks.
            let _nobody_is_placed = self.0.placing.lock().await;
            let row = self.known(tenant, id).await?;
            if row.state == SandboxState::Queued {
                return self.act(tenant, id, Action::Delete, &change).await;
            }
            row
        } else {
            row
        };
        self.0.live.with(id, |entry| entry.busy = true);
        let deleted = self.remove_placed(&row, reason, &change).await;
        self.0.live.with(id, |entry| entry.busy = false);
        deleted
    }

    async fn remove_placed(
        &self,
        row: &Row,
        reason: FailureReason,
        change: &Change,
    ) -> Result<Row> {
        let (tenant, id, now) = (row.tenant(), row.id, self.now());
        let store = &self.0.store;
        match store.ask_deletion(&tenant, id, reason, now).await {
            // Then removing it is what makes room, and only a crash right now would leave it half removed.
            Err(StoreError::DiskFull(error)) => {
                tracing::warn!(%id, %error, "deleted off the record");
            }
            asked => asked?,
        }
        self.0.live.leave(id, reason);
        self.call_off(id).await;
        if row.node_id.is_some() {
            self.remove_from_node(row).await?;
        }
        self.act(&tenant, id, Action::Delete, change).await
    }

    /// Ends the making of it, if it is being made.
    async fn call_off(&self, id: SandboxId) {
        let making = self.0.live.with(id, |entry| entry.making.clone()).flatten();
        if let Some(making) = making {
            making.cancel.cancel();
            making.done.cancelled().await;
        }
    }

    async fn remove_from_node(&self, row: &Row) -> Result<()> {
        let removed = match self.member_of(row) {
            Ok(member) => member.handle.delete(row.id).await,
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.code == ErrorCode::NodeUnreachable => {
                tracing::warn!(id = %row.id, %error, "deleted on record; its node removes it when it is back");
                Ok(())
            }
            removed => removed,
        }
    }
}
