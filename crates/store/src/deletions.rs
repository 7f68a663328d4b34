//! Deletions that were asked for: on record before anything is removed, so that whoever comes after a crash finishes them.

use jiff::Timestamp;
use skerry_types::{FailureReason, SandboxId};

use crate::Store;
use crate::context::{System, Tenant};
use crate::error::Result;
use crate::sandbox::Sandbox;
use crate::sql::sql;

/// A deletion that was asked for and is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// What is to go.
    pub sandbox: Sandbox,
    /// Why.
    pub reason: FailureReason,
}

impl Store {
    /// Puts on record that a sandbox is to go. Again, or of one that is gone or not there: nothing happens.
    pub async fn ask_deletion(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        reason: FailureReason,
        at: Timestamp,
    ) -> Result<()> {
        self.db
            .run(
                sql(
                    "INSERT INTO deletions (id, org_id, reason, asked_at) SELECT id, org_id, $3, $4 \
                     FROM sandboxes WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL \
                     ON CONFLICT (id) DO NOTHING",
                )
                .bind(tenant.org())
                .bind(id)
                .bind(reason)
                .bind(at),
            )
            .await?;
        Ok(())
    }

    /// Every deletion that is not done, the longest asked for first; those that are done are forgotten.
    pub async fn open_deletions(&self, _: &System) -> Result<Vec<Deletion>> {
        self.db
            .run(sql("DELETE FROM deletions WHERE NOT EXISTS \
                      (SELECT 1 FROM sandboxes WHERE sandboxes.id = deletions.id AND deleted_at IS NULL)"))
            .await?;
        let rows = self
            .db
            .rows(sql(
                "SELECT sandboxes.*, deletions.reason AS delete_reason FROM deletions \
                 JOIN sandboxes ON sandboxes.id = deletions.id AND sandboxes.org_id = deletions.org_id \
                 ORDER BY deletions.asked_at, deletions.id",
            ))
            .await?;
        let deletion = |row| {
            Ok(Deletion {
                sandbox: Sandbox::read(row)?,
                reason: row.word("delete_reason", FailureReason::from_name)?,
            })
        };
        rows.iter().map(deletion).collect()
    }
}
