//! The installation's own secret: what its signatures and tokens are made with.

use crate::Store;
use crate::context::System;
use crate::error::{Result, StoreError};
use crate::sql::sql;

/// Bytes of the secret.
pub const SECRET_BYTES: usize = 32;

impl Store {
    /// The installation's secret: `fresh`, if it has none yet. Every process over one store gets the same.
    pub async fn server_secret(
        &self,
        _: &System,
        fresh: [u8; SECRET_BYTES],
    ) -> Result<[u8; SECRET_BYTES]> {
        let mut tx = self.db.begin().await?;
        tx.run(
            sql("INSERT INTO server_secret (id, secret) VALUES (1, $1) ON CONFLICT DO NOTHING")
                .bind(fresh),
        )
        .await?;
        let row = tx
            .row(sql("SELECT secret FROM server_secret WHERE id = 1"))
            .await?;
        tx.commit().await?;
        let secret: Option<Vec<u8>> = row.map(|row| row.get("secret")).transpose()?;
        secret
            .and_then(|secret| secret.try_into().ok())
            .ok_or(StoreError::BadValue { column: "secret" })
    }
}
