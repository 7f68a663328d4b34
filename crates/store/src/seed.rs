//! The rows that every installation has. Added once; a second run, or a later change by hand, stays untouched.

use jiff::Timestamp;
use skerry_types::OrgId;

use crate::Store;
use crate::error::Result;
use crate::nodes::{LOCAL_NODE, NodeState};
use crate::orgs::{Quotas, insert_quotas};
use crate::sql::sql;

/// Slots of the local node until it says how many it has.
const LOCAL_SLOTS: u32 = 10;

impl Store {
    /// Adds the platform's org, the local org and the local node where they are missing. Sizes are code ([`skerry_types::Profile`]), not rows.
    pub async fn seed(&self) -> Result<()> {
        let orgs = [
            (OrgId::PLATFORM, "Platform", "platform", Quotas::DEFAULT),
            (OrgId::LOCAL, "Local", "local", Quotas::LOCAL),
        ];
        let at = Timestamp::now();
        let mut tx = self.db.begin().await?;
        for (id, name, slug, quotas) in orgs {
            tx.run(
                sql(
                    "INSERT INTO orgs (id, name, slug, created_at) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT DO NOTHING",
                )
                .bind(id)
                .bind(name)
                .bind(slug)
                .bind(at),
            )
            .await?;
            tx.run(insert_quotas(id, quotas, " ON CONFLICT DO NOTHING"))
                .await?;
        }
        tx.run(
            sql(
                "INSERT INTO nodes (id, org_id, name, hostname, slots_total, state, version, \
                 capabilities, created_at, updated_at) \
                 VALUES ($1, $2, 'local', 'localhost', $3, $4, '', $5, $6, $6) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(LOCAL_NODE)
            .bind(OrgId::PLATFORM)
            .bind(LOCAL_SLOTS)
            .bind(NodeState::Offline)
            .bind(serde_json::json!({}))
            .bind(at),
        )
        .await?;
        tx.commit().await
    }
}
