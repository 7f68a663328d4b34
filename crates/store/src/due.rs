//! What reconcilers have to do now, and what may be forgotten. Each list is bounded: the rest comes with the next round.

use jiff::Timestamp;
use skerry_types::limits;

use crate::Store;
use crate::context::System;
use crate::error::Result;
use crate::sandbox::Sandbox;
use crate::sql::sql;

/// Rows in one list.
const BATCH: i64 = 200;

impl Store {
    /// Sandboxes that have reached their age limit, the longest overdue first.
    pub async fn expired(&self, _: &System, now: Timestamp) -> Result<Vec<Sandbox>> {
        self.list(
            sql(
                "SELECT * FROM sandboxes WHERE state IN ('running', 'paused') \
                 AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
            )
            .bind(now)
            .bind(BATCH),
        )
        .await
    }

    /// Sandboxes that end soon and have not been warned.
    pub async fn ttl_warnings_due(&self, _: &System, now: Timestamp) -> Result<Vec<Sandbox>> {
        let micros = limits::TTL_WARNING_SECONDS.cast_signed() * 1_000_000;
        self.list(
            sql(
                "SELECT * FROM sandboxes WHERE state IN ('running', 'paused') \
                 AND ttl_warned = FALSE AND expires_at > $1 AND expires_at <= $2 \
                 ORDER BY expires_at LIMIT $3",
            )
            .bind(now)
            .bind(now.as_microsecond() + micros)
            .bind(BATCH),
        )
        .await
    }

    /// Running sandboxes that nothing has used for as long as they allow.
    pub async fn idle(&self, _: &System, now: Timestamp) -> Result<Vec<Sandbox>> {
        self.list(
            sql(
                "SELECT * FROM sandboxes WHERE state = 'running' AND idle_seconds > 0 \
                 AND last_active_at + idle_seconds * 1000000 <= $1 \
                 ORDER BY last_active_at LIMIT $2",
            )
            .bind(now)
            .bind(BATCH),
        )
        .await
    }

    /// Sandboxes that have waited for a place as long as they may.
    pub async fn queue_timed_out(&self, _: &System, now: Timestamp) -> Result<Vec<Sandbox>> {
        self.list(
            sql("SELECT * FROM sandboxes WHERE state = 'queued' \
                 AND queued_at + queue_timeout_seconds * 1000000 <= $1 \
                 ORDER BY queued_at LIMIT $2")
            .bind(now)
            .bind(BATCH),
        )
        .await
    }

    /// Forgets sandboxes that were deleted before `before`, but only a whole tree of forks at once. Returns how many rows went.
    pub async fn purge_deleted(&self, _: &System, before: Timestamp) -> Result<u64> {
        self.db
            .run(
                sql(
                    "DELETE FROM sandboxes WHERE deleted_at < $1 AND NOT EXISTS \
                     (SELECT 1 FROM sandboxes AS kin WHERE kin.fork_root = sandboxes.fork_root \
                     AND (kin.deleted_at IS NULL OR kin.deleted_at >= $1))",
                )
                .bind(before),
            )
            .await
    }
}
