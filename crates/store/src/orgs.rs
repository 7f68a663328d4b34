//! Organisations and what each may have.

use jiff::Timestamp;
use skerry_types::{OrgId, limits};

use crate::context::{System, Tenant};
use crate::error::{Result, StoreError};
use crate::sql::{Row, Sql, sql};
use crate::{Store, db::Tx};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Org {
    /// Its id.
    pub id: OrgId,
    /// What people call it.
    pub name: String,
    /// Its name in addresses; unique.
    pub slug: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an org may have. For the three rates 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Sandboxes that have not ended, the queued included.
    pub max_concurrent_sandboxes: u32,
    /// The longest life a sandbox may ask for.
    pub max_ttl_seconds: u32,
    /// The longest time an exec may ask for.
    pub max_exec_seconds: u32,
    /// Unused for this long, a sandbox ends unless it says otherwise. 0: never.
    pub idle_timeout_seconds: u32,
    /// Forks between a sandbox and its root.
    pub max_fork_depth: u32,
    /// Forks of one sandbox.
    pub max_forks_per_sandbox: u32,
    /// What its snapshots may take on disk together, in MiB.
    pub max_snapshot_mb: u32,
    /// What its volumes may hold together, in MiB.
    pub max_volume_mb: u32,
    /// Sandboxes made in a minute.
    pub creates_per_minute: u32,
    /// Execs started in a minute.
    pub execs_per_minute: u32,
    /// Other requests in a minute.
    pub reads_per_minute: u32,
    /// How long artifacts are kept.
    pub artifact_retention_days: u32,
    /// How long records are kept.
    pub replay_retention_days: u32,
}

impl Quotas {
    /// What a new org gets.
    pub const DEFAULT: Self = Self {
        max_concurrent_sandboxes: 10,
        max_ttl_seconds: seconds(limits::MAX_TTL_SECONDS),
        max_exec_seconds: seconds(limits::MAX_EXEC_SECONDS),
        idle_timeout_seconds: seconds(limits::DEFAULT_IDLE_SECONDS),
        max_fork_depth: limits::MAX_FORK_DEPTH,
        max_forks_per_sandbox: limits::MAX_FORKS,
        max_snapshot_mb: limits::MAX_SNAPSHOT_MB,
        max_volume_mb: limits::MAX_VOLUME_MB,
        creates_per_minute: 30,
        execs_per_minute: 120,
        reads_per_minute: 600,
        artifact_retention_days: 30,
        replay_retention_days: 30,
    };

    /// What the one org of a single machine gets: the machine is its limit.
    pub const LOCAL: Self = Self {
        max_concurrent_sandboxes: 1000,
        max_forks_per_sandbox: 1000,
        creates_per_minute: 0,
        execs_per_minute: 0,
        reads_per_minute: 0,
        ..Self::DEFAULT
    };

    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            max_concurrent_sandboxes: row.count("max_concurrent_sandboxes")?,
            max_ttl_seconds: row.count("max_ttl_seconds")?,
            max_exec_seconds: row.count("max_exec_seconds")?,
            idle_timeout_seconds: row.count("idle_timeout_seconds")?,
            max_fork_depth: row.count("max_fork_depth")?,
            max_forks_per_sandbox: row.count("max_forks_per_sandbox")?,
            max_snapshot_mb: row.count("max_snapshot_mb")?,
            max_volume_mb: row.count("max_volume_mb")?,
            creates_per_minute: row.count("creates_per_minute")?,
            execs_per_minute: row.count("execs_per_minute")?,
            reads_per_minute: row.count("reads_per_minute")?,
            artifact_retention_days: row.count("artifact_retention_days")?,
            replay_retention_days: row.count("replay_retention_days")?,
        })
    }

    fn bind(self, sql: Sql) -> Sql {
        sql.bind(self.max_concurrent_sandboxes)
            .bind(self.max_ttl_seconds)
            .bind(self.max_exec_seconds)
            .bind(self.idle_timeout_seconds)
            .bind(self.max_fork_depth)
            .bind(self.max_forks_per_sandbox)
            .bind(self.creates_per_minute)
            .bind(self.execs_per_minute)
            .bind(self.reads_per_minute)
            .bind(self.artifact_retention_days)
            .bind(self.replay_retention_days)
            .bind(self.max_snapshot_mb)
            .bind(self.max_volume_mb)
    }
}

/// The limits in `types` are small; a constant that did not fit would not compile.
const fn seconds(limit: u64) -> u32 {
    assert!(limit <= u32::MAX as u64);
    #[expect(clippy::cast_possible_truncation, reason = "checked in the line above")]
    let seconds = limit as u32;
    seconds
}

impl Store {
    /// Adds an org with its quotas. The slug again: exists.
    pub async fn create_org(&self, _: &System, org: &Org, quotas: Quotas) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.run(
            sql("INSERT INTO orgs (id, name, slug, created_at) VALUES ($1, $2, $3, $4)")
                .bind(org.id)
                .bind(org.name.as_str())
                .bind(org.slug.as_str())
                .bind(org.created_at),
        )
        .await?;
        tx.run(insert_quotas(org.id, quotas, "")).await?;
        tx.commit().await
    }

    /// The tenant's own org.
    pub async fn org(&self, tenant: &Tenant) -> Result<Org> {
        let row = self
            .db
            .row(sql("SELECT * FROM orgs WHERE id = $1").bind(tenant.org()))
            .await?
            .ok_or_else(|| not_found(tenant))?;
        Ok(Org {
            id: OrgId::from_uuid(row.get("id")?),
            name: row.get("name")?,
            slug: row.get("slug")?,
            created_at: row.time("created_at")?,
        })
    }

    /// What the tenant may have.
    pub async fn quotas(&self, tenant: &Tenant) -> Result<Quotas> {
        let row = self.db.row(select_quotas(tenant)).await?;
        Quotas::read(&row.ok_or_else(|| not_found(tenant))?)
    }

    /// Changes what an org may have. What it has already is left alone.
    pub async fn set_quotas(&self, _: &System, org: OrgId, quotas: Quotas) -> Result<()> {
        let update = " ON CONFLICT (org_id) DO UPDATE SET \
            max_concurrent_sandboxes = excluded.max_concurrent_sandboxes, \
            max_ttl_seconds = excluded.max_ttl_seconds, \
            max_exec_seconds = excluded.max_exec_seconds, \
            idle_timeout_seconds = excluded.idle_timeout_seconds, \
            max_fork_depth = excluded.max_fork_depth, \
            max_forks_per_sandbox = excluded.max_forks_per_sandbox, \
            creates_per_minute = excluded.creates_per_minute, \
            execs_per_minute = excluded.execs_per_minute, \
            reads_per_minute = excluded.reads_per_minute, \
            artifact_retention_days = excluded.artifact_retention_days, \
            replay_retention_days = excluded.replay_retention_days, \
            max_snapshot_mb = excluded.max_snapshot_mb, \
            max_volume_mb = excluded.max_volume_mb";
        self.db.run(insert_quotas(org, quotas, update)).await?;
        Ok(())
    }
}

/// Reads the quotas and keeps every other create of this org waiting until the transaction ends.
pub(crate) async fn lock_quotas(tx: &mut Tx, tenant: &Tenant) -> Result<Quotas> {
    let row = tx.row(select_quotas(tenant).for_update()).await?;
    Quotas::read(&row.ok_or_else(|| not_found(tenant))?)
}

/// What the tenant may have.
pub(crate) fn select_quotas(tenant: &Tenant) -> Sql {
    sql("SELECT * FROM org_quotas WHERE org_id = $1").bind(tenant.org())
}

/// Inserts quotas; `on_conflict` says what happens if the org has some.
pub(crate) fn insert_quotas(org: OrgId, quotas: Quotas, on_conflict: &str) -> Sql {
    let insert = sql(
        "INSERT INTO org_quotas (org_id, max_concurrent_sandboxes, max_ttl_seconds, \
         max_exec_seconds, idle_timeout_seconds, max_fork_depth, max_forks_per_sandbox, \
         creates_per_minute, execs_per_minute, reads_per_minute, artifact_retention_days, \
         replay_retention_days, max_snapshot_mb, max_volume_mb) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(org);
    quotas.bind(insert).push(on_conflict)
}

fn not_found(tenant: &Tenant) -> StoreError {
    StoreError::NotFound(tenant.org().to_string())
}
