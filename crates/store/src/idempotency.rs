//! Keys that make a repeated mutation harmless: the first request does it, the others get its answer.
//!
//! What a request makes has an id that is chosen with its claim. Whoever takes over the claim of a process that died gets the same id, and
//! so finds what that process made.

use jiff::Timestamp;
use skerry_types::limits;
use uuid::Uuid;

use crate::Store;
use crate::context::{System, Tenant};
use crate::error::Result;
use crate::sql::{Row, sql};

/// A first request that has not ended after this long died with its server, wherever that was. Longer than any request lives.
const ABANDONED_MICROS: i64 = 15 * 60 * 1_000_000;
const KEPT_MICROS: i64 = limits::IDEMPOTENCY_SECONDS.cast_signed() * 1_000_000;

/// The right, and the duty, to end what was begun under a key.
#[derive(Debug)]
#[must_use = "a claim that is never finished blocks its key"]
pub struct Claim {
    tenant: Tenant,
    key: String,
    begun: Timestamp,
    /// The id of what the request makes.
    pub id: Uuid,
    /// Somebody began before and did not end: there may be something with this id already.
    pub again: bool,
}

/// What a request with a key is to do.
#[derive(Debug)]
pub enum Begun {
    /// It is the first: do it, then [`Store::finish_idempotent`].
    First(Claim),
    /// It was done: answer this.
    Replay {
        /// The status of the first answer.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// The first is not done yet.
    InProgress,
    /// The key was used for another request.
    OtherRequest,
}

impl Store {
    /// Begins a request with a key; `hash` is of its method, path and body. Of many at once exactly one is the first.
    ///
    /// `owner` names the control process that will end it.
    pub async fn begin_idempotent(
        &self,
        tenant: &Tenant,
        key: &str,
        hash: [u8; 32],
        owner: &str,
        at: Timestamp,
    ) -> Result<Begun> {
        let micros = at.as_microsecond();
        let id = Uuid::now_v7();
        let claimed = self
            .db
            .change(
                sql("INSERT INTO idempotency_keys (org_id, idem_key, request_hash, status, created_at, subject, \
                     owner) VALUES ($1, $2, $3, 'processing', $4, $7, $8) ON CONFLICT (org_id, idem_key) DO UPDATE \
                     SET request_hash = excluded.request_hash, status = excluded.status, \
                     created_at = excluded.created_at, response_status = NULL, response_body = NULL, \
                     owner = excluded.owner, subject = CASE WHEN idempotency_keys.created_at < $5 \
                     THEN excluded.subject ELSE COALESCE(idempotency_keys.subject, excluded.subject) END \
                     WHERE idempotency_keys.created_at < $5 \
                     OR (idempotency_keys.status = 'processing' \
                     AND idempotency_keys.request_hash = excluded.request_hash \
                     AND (idempotency_keys.owner IS NULL OR idempotency_keys.created_at < $6)) RETURNING subject")
                .bind(tenant.org())
                .bind(key)
                .bind(hash)
                .bind(at)
                .bind(micros - KEPT_MICROS)
                .bind(micros - ABANDONED_MICROS)
                .bind(id)
                .bind(owner),
            )
            .await?;
        if let Some(row) = claimed {
            let subject: Uuid = row.get("subject")?;
            return Ok(Begun::First(Claim {
                tenant: *tenant,
                key: key.to_owned(),
                begun: at,
                id: subject,
                again: subject != id,
            }));
        }
        let row = self
            .db
            .row(
                sql("SELECT * FROM idempotency_keys WHERE org_id = $1 AND idem_key = $2")
                    .bind(tenant.org())
                    .bind(key),
            )
            .await?;
        // Gone between the two statements: the first has just given up, and the caller may try again.
        row.map_or(Ok(Begun::InProgress), |row| earlier(&row, hash))
    }

    /// Lets go of every claim of this owner: whoever held them has died. The same request under the same key may begin again at once.
    pub async fn release_claims(&self, _: &System, owner: &str) -> Result<u64> {
        self.db
            .run(
                sql("UPDATE idempotency_keys SET owner = NULL WHERE owner = $1 AND status = 'processing'")
                    .bind(owner),
            )
            .await
    }

    /// Ends a first request with its answer. Only a success (2xx) is kept; after anything else the key is free again.
    pub async fn finish_idempotent(&self, claim: Claim, status: u16, body: &[u8]) -> Result<()> {
        if !(200..300).contains(&status) {
            return self.abandon_idempotent(claim).await;
        }
        self.db
            .run(
                sql(
                    "UPDATE idempotency_keys SET status = 'completed', response_status = $4, \
                     response_body = $5 WHERE org_id = $1 AND idem_key = $2 AND created_at = $3 \
                     AND status = 'processing'",
                )
                .bind(claim.tenant.org())
                .bind(claim.key)
                .bind(claim.begun)
                .bind(u32::from(status))
                .bind(body.to_vec()),
            )
            .await?;
        Ok(())
    }

    /// Ends a first request whose answer is not kept although it was a success: the same request under the same key begins again with the same id.
    pub async fn release_idempotent(&self, claim: Claim) -> Result<()> {
        self.db
            .run(
                sql(
                    "UPDATE idempotency_keys SET owner = NULL WHERE org_id = $1 AND idem_key = $2 \
                     AND created_at = $3 AND status = 'processing'",
                )
                .bind(claim.tenant.org())
                .bind(claim.key)
                .bind(claim.begun),
            )
            .await?;
        Ok(())
    }

    /// Ends a first request that has no answer worth keeping.
    pub async fn abandon_idempotent(&self, claim: Claim) -> Result<()> {
        self.db
            .run(
                sql(
                    "DELETE FROM idempotency_keys WHERE org_id = $1 AND idem_key = $2 \
                     AND created_at = $3 AND status = 'processing'",
                )
                .bind(claim.tenant.org())
                .bind(claim.key)
                .bind(claim.begun),
            )
            .await?;
        Ok(())
    }

    /// Forgets keys that are older than they are kept. Returns how many.
    pub async fn purge_idempotency_keys(&self, _: &System, now: Timestamp) -> Result<u64> {
        self.db
            .run(
                sql("DELETE FROM idempotency_keys WHERE created_at < $1")
                    .bind(now.as_microsecond() - KEPT_MICROS),
            )
            .await
    }
}

fn earlier(row: &Row, hash: [u8; 32]) -> Result<Begun> {
    if row.get::<Vec<u8>>("request_hash")? != hash {
        return Ok(Begun::OtherRequest);
    }
    if row.get::<String>("status")? == "processing" {
        return Ok(Begun::InProgress);
    }
    Ok(Begun::Replay {
        status: row.count("response_status")?,
        body: row.get("response_body")?,
    })
}
