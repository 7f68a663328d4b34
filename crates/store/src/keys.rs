//! API keys: only a hash of the secret is kept.

use jiff::Timestamp;
use skerry_types::{KeyId, OrgId};

use crate::Store;
use crate::context::{System, Tenant};
use crate::error::{Result, StoreError};
use crate::sql::{Row, sql};

/// `last_used_at` moves at most this often, so that a busy key does not write on every request.
const USED_EVERY_MICROS: i64 = 60_000_000;

/// An API key's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The record's id.
    pub id: KeyId,
    /// For whom it speaks.
    pub org_id: OrgId,
    /// What people call it.
    pub name: String,
    /// The first characters of the secret, to tell keys apart.
    pub prefix: String,
    /// What it may do; empty: everything.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to count.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: KeyId::from_uuid(row.get("id")?),
            org_id: OrgId::from_uuid(row.get("org_id")?),
            name: row.get("name")?,
            prefix: row.get("prefix")?,
            scopes: row.json("scopes")?,
            created_at: row.time("created_at")?,
            expires_at: row.time_opt("expires_at")?,
            revoked_at: row.time_opt("revoked_at")?,
            last_used_at: row.time_opt("last_used_at")?,
        })
    }
}

/// A key to add.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The record's id.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// What it may do; empty: everything.
    pub scopes: Vec<String>,
    /// When it stops to count.
    pub expires_at: Option<Timestamp>,
}

impl Store {
    /// Adds a key. The same secret again: exists.
    pub async fn create_key(&self, tenant: &Tenant, new: NewKey, at: Timestamp) -> Result<ApiKey> {
        let row = self
            .db
            .change(
                sql(
                    "INSERT INTO api_keys (id, org_id, name, prefix, key_hash, scopes, expires_at, \
                     created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *",
                )
                .bind(new.id)
                .bind(tenant.org())
                .bind(new.name)
                .bind(new.prefix)
                .bind(new.hash)
                .bind(serde_json::json!(new.scopes))
                .bind(new.expires_at)
                .bind(at),
            )
            .await?;
        ApiKey::read(&row.ok_or(StoreError::Statement(sqlx::Error::RowNotFound))?)
    }

    /// The tenant's keys, newest first, the revoked included.
    pub async fn keys(&self, tenant: &Tenant) -> Result<Vec<ApiKey>> {
        let rows = self
            .db
            .rows(
                sql("SELECT * FROM api_keys WHERE org_id = $1 ORDER BY id DESC").bind(tenant.org()),
            )
            .await?;
        rows.iter().map(ApiKey::read).collect()
    }

    /// Takes a key back, for good: a power cut does not bring it back. Again: fine, with the first time kept.
    pub async fn revoke_key(&self, tenant: &Tenant, id: KeyId, at: Timestamp) -> Result<ApiKey> {
        let row = self
            .db
            .change(
                sql("UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) \
                     WHERE org_id = $1 AND id = $2 RETURNING *")
                .bind(tenant.org())
                .bind(id)
                .bind(at),
            )
            .await?
            .ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        self.db.harden().await?;
        ApiKey::read(&row)
    }

    /// The key with this hash, if it counts at this time; notes that it was used. This is where a tenant comes from.
    pub async fn use_key(
        &self,
        _: &System,
        hash: [u8; 32],
        at: Timestamp,
    ) -> Result<Option<ApiKey>> {
        let row = self
            .db
            .row(
                sql(
                    "SELECT * FROM api_keys WHERE key_hash = $1 AND revoked_at IS NULL \
                     AND (expires_at IS NULL OR expires_at > $2)",
                )
                .bind(hash)
                .bind(at),
            )
            .await?;
        let Some(mut key) = row.as_ref().map(ApiKey::read).transpose()? else {
            return Ok(None);
        };
        let stale = at.as_microsecond() - USED_EVERY_MICROS;
        if key
            .last_used_at
            .is_none_or(|used| used.as_microsecond() <= stale)
        {
            let note = sql("UPDATE api_keys SET last_used_at = $2 WHERE id = $1");
            match self.db.run(note.bind(key.id).bind(at)).await {
                Ok(_) => key.last_used_at = Some(at),
                // Who may delete something is not locked out because there is no room to note that.
                Err(StoreError::DiskFull(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(key))
    }
}
