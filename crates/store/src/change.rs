//! Changing a sandbox: its state, by the one transition function and guarded by the state it was in; its times.

use jiff::Timestamp;
use skerry_types::{Action, Egress, FailureReason, SandboxId, SandboxState, state};

use crate::Store;
use crate::context::Tenant;
use crate::error::{Result, StoreError};
use crate::sandbox::{Facts, OnTimeout, Sandbox};
use crate::sql::{Sql, sql};

/// Uses closer together than this move `last_active_at` once.
const TOUCH_EVERY_MICROS: i64 = 1_000_000;
/// How often a change is tried again when the state moved meanwhile. No life has more steps than this.
const ATTEMPTS: u32 = 16;

/// What goes with a change of state. What is not given stays as it was.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Why it failed, or was ended without being asked.
    pub reason: Option<FailureReason>,
    /// The same for a person.
    pub message: Option<String>,
    /// What its node says that it is.
    pub facts: Facts,
}

/// New times of a sandbox. What is not given stays as it was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// The age limit, and when it is reached if that is known yet.
    pub ttl: Option<(u32, Option<Timestamp>)>,
    /// How long it may be unused; 0: for ever. Counted anew.
    pub idle_seconds: Option<u32>,
    /// What happens when either is over; with it, what happens to an idle one is no other any more.
    pub on_timeout: Option<OnTimeout>,
    /// What happens when it was unused for too long.
    pub on_idle: Option<OnTimeout>,
    /// Paused, it wakes up when it is used.
    pub auto_resume: Option<bool>,
}

/// What became of a guarded change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cas {
    /// It is done; the row after it.
    Done(Sandbox),
    /// The state had moved; the row as it is now.
    Stale(Sandbox),
}

impl Store {
    /// Lets `action` happen to a sandbox, whatever changes beside it: reads, asks the transition function, writes only if the state is
    /// still the one that was read.
    pub async fn act(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        action: Action,
        change: &Change,
        at: Timestamp,
    ) -> Result<Sandbox> {
        let mut before = self.sandbox(tenant, id).await?;
        for _ in 0..ATTEMPTS {
            match self.transition(tenant, &before, action, change, at).await? {
                Cas::Done(after) => return Ok(after),
                Cas::Stale(now) => before = now,
            }
        }
        Err(StoreError::Contended)
    }

    /// Lets `action` happen to a sandbox only if it is still as in `before`.
    ///
    /// An action that changes nothing (stop a stopped one) is done at once. When a fork first runs, its parent's count rises with it.
    pub async fn transition(
        &self,
        tenant: &Tenant,
        before: &Sandbox,
        action: Action,
        change: &Change,
        at: Timestamp,
    ) -> Result<Cas> {
        if action == Action::Start {
            // Within the quota and into a free slot, whoever asks. Large, and seldom: not in the future of everybody who changes something.
            let started = Box::pin(self.start_sandbox(tenant, before.id, at));
            return started.await.map(Cas::Done);
        }
        let to = state::next(before.state, action)?;
        if to == before.state {
            return Ok(Cas::Done(before.clone()));
        }
        let update = update(tenant, before, to, change, at);
        let first_run = to == SandboxState::Running && before.started_at.is_none();
        let row = match before.forked_from {
            Some(parent) if first_run => {
                let mut tx = self.db.begin().await?;
                let row = tx.row(update).await?;
                if row.is_some() {
                    tx.run(count_fork(tenant, parent, at)).await?;
                }
                tx.commit().await?;
                row
            }
            _ => self.db.change(update).await?,
        };
        match row {
            Some(row) => Ok(Cas::Done(Sandbox::read(&row)?)),
            None => Ok(Cas::Stale(self.sandbox(tenant, before.id).await?)),
        }
    }

    /// Sets new times; with a new age limit the warning will come again.
    pub async fn set_timeout(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        times: Times,
        at: Timestamp,
    ) -> Result<Sandbox> {
        let row = self
            .db
            .change(
                sql(
                    "UPDATE sandboxes SET ttl_seconds = COALESCE($3, ttl_seconds), \
                     expires_at = COALESCE($4, expires_at), ttl_warned = ttl_warned AND $3 IS NULL, \
                     idle_seconds = COALESCE($5, idle_seconds), last_active_at = \
                     CASE WHEN $5 IS NULL THEN last_active_at ELSE $7 END, \
                     on_timeout = COALESCE($6, on_timeout), \
                     on_idle = CASE WHEN $6 IS NULL THEN COALESCE($8, on_idle) ELSE $8 END, \
                     auto_resume = COALESCE($9, auto_resume), updated_at = $7 WHERE org_id = $1 AND id = $2 \
                     AND state IN ('queued', 'provisioning', 'running', 'paused') RETURNING *",
                )
                .bind(tenant.org())
                .bind(id)
                .bind(times.ttl.map(|(seconds, _)| seconds))
                .bind(times.ttl.and_then(|(_, end)| end))
                .bind(times.idle_seconds)
                .bind(times.on_timeout)
                .bind(at)
                .bind(times.on_idle)
                .bind(times.auto_resume),
            )
            .await?;
        if let Some(row) = row {
            return Sandbox::read(&row);
        }
        let now = self.sandbox(tenant, id).await?;
        Err(StoreError::NotRunning(now.state))
    }

    /// Sets where one that lives may connect.
    pub async fn set_egress(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        egress: &Egress,
        at: Timestamp,
    ) -> Result<Sandbox> {
        let update = sql(
            "UPDATE sandboxes SET egress = $3, updated_at = $4 WHERE org_id = $1 AND id = $2 \
             AND state IN ('running', 'paused') RETURNING *",
        )
        .bind(tenant.org())
        .bind(id)
        .bind(serde_json::json!(egress))
        .bind(at);
        match self.db.change(update).await? {
            Some(row) => Sandbox::read(&row),
            None => Err(StoreError::NotRunning(
                self.sandbox(tenant, id).await?.state,
            )),
        }
    }

    /// Notes that the warning about the coming end was given; true for the one caller who is to give it.
    pub async fn mark_ttl_warned(&self, tenant: &Tenant, id: SandboxId) -> Result<bool> {
        let met = self
            .db
            .run(
                sql("UPDATE sandboxes SET ttl_warned = TRUE \
                     WHERE org_id = $1 AND id = $2 AND ttl_warned = FALSE")
                .bind(tenant.org())
                .bind(id),
            )
            .await?;
        Ok(met == 1)
    }

    /// Notes that a sandbox was used. Never moves backwards, and at most once a second.
    pub async fn touch(&self, tenant: &Tenant, id: SandboxId, at: Timestamp) -> Result<()> {
        self.db
            .run(
                sql("UPDATE sandboxes SET last_active_at = $3 \
                     WHERE org_id = $1 AND id = $2 AND last_active_at <= $4")
                .bind(tenant.org())
                .bind(id)
                .bind(at)
                .bind(at.as_microsecond() - TOUCH_EVERY_MICROS),
            )
            .await?;
        Ok(())
    }
}

/// The guarded change itself. The age limit counts from the start: the first, or one after it had ended.
fn update(
    tenant: &Tenant,
    before: &Sandbox,
    to: SandboxState,
    change: &Change,
    at: Timestamp,
) -> Sql {
    let facts = &change.facts;
    let runs = to == SandboxState::Running;
    let starts =
        runs && (before.started_at.is_none() || before.state == SandboxState::Provisioning);
    let expires = (runs && before.expires_at.is_none() && before.ttl_seconds > 0)
        .then(|| at.as_microsecond() + i64::from(before.ttl_seconds) * 1_000_000);
    let published = facts.published.as_ref();
    let published = published.map(|ports| serde_json::json!(ports).to_string());
    let mut update = sql("UPDATE sandboxes SET state = $5, updated_at = $6, \
         started_at = COALESCE($23, started_at), expires_at = COALESCE($8, expires_at), \
         last_active_at = COALESCE($7, last_active_at), failure_reason = COALESCE($9, failure_reason), \
         failure_message = COALESCE($10, failure_message), driver = COALESCE($11, driver), \
         isolation = COALESCE($12, isolation), privilege = COALESCE($13, privilege), \
         storage = COALESCE($14, storage), disk_quota = COALESCE($15, disk_quota), \
         limits = COALESCE($16, limits), image_digest = COALESCE($17, image_digest), \
         fork_kind = COALESCE($18, fork_kind), boot_us = COALESCE($19, boot_us), \
         accelerator = COALESCE($20, accelerator), resumed_at = COALESCE($21, resumed_at), \
         published = COALESCE($22, published)")
    .bind(tenant.org())
    .bind(before.id)
    .bind(before.state)
    .bind(before.started_at.is_none())
    .bind(to)
    .bind(at)
    .bind(runs.then_some(at))
    .bind(expires)
    .bind(change.reason)
    .bind(change.message.clone())
    .bind(facts.driver.clone())
    .bind(facts.isolation.clone())
    .bind(facts.privilege)
    .bind(facts.storage.clone())
    .bind(facts.disk_quota)
    .bind(facts.limits)
    .bind(facts.image_digest.clone())
    .bind(facts.fork_kind.clone())
    .bind(facts.boot_us)
    .bind(facts.accelerator.clone())
    .bind((runs && before.state == SandboxState::Paused).then_some(at))
    .bind(published)
    .bind(starts.then_some(at));
    // Only where needed: these columns are in indexes, which a statement that names them writes anew.
    if to.is_ended() {
        update = update.push(", ended_at = COALESCE(ended_at, $6)");
    }
    if to == SandboxState::Deleted {
        update = update.push(", deleted_at = $6");
    }
    update.push(
        " WHERE org_id = $1 AND id = $2 AND state = $3 AND (started_at IS NULL) = $4 RETURNING *",
    )
}

fn count_fork(tenant: &Tenant, parent: SandboxId, at: Timestamp) -> Sql {
    sql(
        "UPDATE sandboxes SET fork_count = fork_count + 1, updated_at = $3 \
         WHERE org_id = $1 AND id = $2",
    )
    .bind(tenant.org())
    .bind(parent)
    .bind(at)
}
