//! Builds: on record before they begin, with one end, and a log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{BuildId, OrgId, SandboxId, SnapshotId, TemplateId};

use crate::Store;
use crate::context::{System, Tenant};
use crate::error::Result;
use crate::sql::{Row, Sql, sql};
use crate::templates::one_template;

/// Where a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStatus {
    /// For its turn.
    Waiting,
    /// Its steps are done.
    Building,
    /// Its template can be used.
    Ready,
    /// It failed, was cancelled or interrupted.
    Error,
}

impl BuildStatus {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Waiting, Self::Building, Self::Ready, Self::Error];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Error => "error",
        }
    }

    /// Nothing comes after.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Ready | Self::Error)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|status| status.as_str() == name)
    }
}

/// What a template gives to what is made from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Where commands start.
    pub workdir: String,
    /// As whom they run.
    pub user: String,
    /// Names of its variables; the values are in its snapshot only.
    pub env_names: Vec<String>,
    /// What always runs, if anything does.
    pub entrypoint: Vec<String>,
    /// Default arguments, or the default command.
    pub cmd: Vec<String>,
    /// Ports that its programs listen on.
    pub ports: Vec<u16>,
}

/// One attempt to make a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Which.
    pub id: BuildId,
    /// Whose.
    pub org_id: OrgId,
    /// Of which template.
    pub template_id: TemplateId,
    /// What the template is found under once it is ready.
    pub tags: Vec<String>,
    /// Where it is.
    pub status: BuildStatus,
    /// The step that it is at, or failed at.
    pub step: Option<String>,
    /// Which of the recipe's steps that is, from 1; `None`: what it starts from, or what it is started with.
    pub step_number: Option<u32>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Where its steps are done.
    pub sandbox_id: Option<SandboxId>,
    /// What came of it.
    pub snapshot_id: Option<SnapshotId>,
    /// What that gives.
    pub defaults: Defaults,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its turn came.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How a build ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEnd {
    /// Its tags stand for this from now on.
    Ready(SnapshotId, Defaults),
    /// For this reason.
    Error(String),
}

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When.
    pub ts: Timestamp,
    /// `info`, `output` for what a command wrote, `error`, or `end` for the last one.
    pub level: String,
    /// The step that it belongs to.
    pub step: Option<String>,
    /// One line.
    pub message: String,
}

impl Build {
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: BuildId::from_uuid(row.get("id")?),
            org_id: OrgId::from_uuid(row.get("org_id")?),
            template_id: TemplateId::from_uuid(row.get("template_id")?),
            tags: row.json("tags")?,
            status: row.word("status", BuildStatus::from_name)?,
            step: row.get("step")?,
            step_number: row.count_opt("step_number")?,
            reason: row.get("reason")?,
            sandbox_id: row
                .get::<Option<_>>("sandbox_id")?
                .map(SandboxId::from_uuid),
            snapshot_id: row
                .get::<Option<_>>("snapshot_id")?
                .map(SnapshotId::from_uuid),
            defaults: row.json("defaults")?,
            created_at: row.time("created_at")?,
            started_at: row.time_opt("started_at")?,
            ended_at: row.time_opt("ended_at")?,
        })
    }
}

impl LogLine {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            seq: row.count("seq")?,
            ts: row.time("ts")?,
            level: row.get("level")?,
            step: row.get("step")?,
            message: row.get("message")?,
        })
    }
}

impl Store {
    /// Puts on record that a template is to be built by this control process.
    pub async fn begin_build(
        &self,
        tenant: &Tenant,
        id: BuildId,
        template: TemplateId,
        tags: &[String],
        owner: &str,
        at: Timestamp,
    ) -> Result<Option<Build>> {
        // The template may be deleted at the same time.
        let insert = sql(
            "INSERT INTO builds (id, org_id, template_id, tags, status, owner, defaults, created_at) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS \
             (SELECT 1 FROM templates WHERE org_id = $2 AND id = $3) RETURNING *",
        )
        .bind(id)
        .bind(tenant.org())
        .bind(template)
        .bind(serde_json::json!(tags))
        .bind(BuildStatus::Waiting.as_str())
        .bind(owner)
        .bind(serde_json::json!(Defaults::default()))
        .bind(at);
        let locks = vec![one_template(tenant, template)];
        let row = self.db.change_alone(locks, insert).await?;
        row.as_ref().map(Build::read).transpose()
    }

    /// Its turn has come; `None`: it has ended already.
    pub async fn start_build(
        &self,
        tenant: &Tenant,
        id: BuildId,
        at: Timestamp,
    ) -> Result<Option<Build>> {
        let update = sql("UPDATE builds SET status = $3, started_at = $4 \
             WHERE org_id = $1 AND id = $2 AND ended_at IS NULL RETURNING *");
        let update = update
            .bind(tenant.org())
            .bind(id)
            .bind(BuildStatus::Building.as_str());
        let row = self.db.change(update.bind(at)).await?;
        row.as_ref().map(Build::read).transpose()
    }

    /// The step that it is at, with its number, if that is another one, and the sandbox that this is done in.
    pub async fn note_build(
        &self,
        tenant: &Tenant,
        id: BuildId,
        step: Option<(&str, Option<u32>)>,
        sandbox: Option<SandboxId>,
    ) -> Result<()> {
        let mut update = sql("UPDATE builds SET sandbox_id = ").push_bind(sandbox);
        if let Some((step, number)) = step {
            update = update.push(", step = ").push_bind(step);
            update = update.push(", step_number = ").push_bind(number);
        }
        let update = update
            .push(" WHERE ended_at IS NULL AND org_id = ")
            .push_bind(tenant.org())
            .push(" AND id = ")
            .push_bind(id);
        self.db.run(update).await?;
        Ok(())
    }

    /// Forgets builds that have ended, with their logs, but not the newest `keep` nor those that a tag stands for.
    pub async fn trim_builds(
        &self,
        tenant: &Tenant,
        template: TemplateId,
        keep: u32,
    ) -> Result<()> {
        const OLD: &str = "org_id = $1 AND template_id = $2 AND ended_at IS NOT NULL \
             AND id NOT IN (SELECT id FROM builds WHERE template_id = $2 ORDER BY id DESC LIMIT $3) \
             AND id NOT IN (SELECT build_id FROM template_tags WHERE template_id = $2)";
        let mut tx = self.db.begin().await?;
        let log = sql(
            "DELETE FROM build_log WHERE org_id = $1 AND build_id IN (SELECT id FROM builds WHERE ",
        );
        for what in [
            log.push(OLD).push(")"),
            sql("DELETE FROM builds WHERE ").push(OLD),
        ] {
            tx.run(what.bind(tenant.org()).bind(template).bind(keep))
                .await?;
        }
        tx.commit().await
    }

    /// Ends it, once; whether this was its end. What it made is found under its tags from then on, in place of what was before.
    pub async fn end_build(
        &self,
        tenant: &Tenant,
        id: BuildId,
        end: BuildEnd,
        at: Timestamp,
    ) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let (status, reason, snapshot, defaults) = match end {
            BuildEnd::Ready(snapshot, defaults) => {
                (BuildStatus::Ready, None, Some(snapshot), defaults)
            }
            BuildEnd::Error(reason) => {
                (BuildStatus::Error, Some(reason), None, Defaults::default())
            }
        };
        let update = sql(
            "UPDATE builds SET status = $3, reason = $4, snapshot_id = $5, defaults = $6, ended_at = $7, \
             step = CASE WHEN $4 IS NULL THEN NULL ELSE step END, \
             step_number = CASE WHEN $4 IS NULL THEN NULL ELSE step_number END \
             WHERE org_id = $1 AND id = $2 AND ended_at IS NULL RETURNING *",
        )
        .bind(tenant.org())
        .bind(id)
        .bind(status.as_str())
        .bind(reason)
        .bind(snapshot)
        .bind(serde_json::json!(defaults))
        .bind(at);
        let Some(row) = tx.row(update).await? else {
            return Ok(false);
        };
        let build = Build::read(&row)?;
        if build.status == BuildStatus::Ready {
            for tag in in_order(&build.tags) {
                tx.run(put_tag(tenant, &build, tag, at)).await?;
            }
        }
        tx.commit().await?;
        Ok(true)
    }

    /// One.
    pub async fn build(&self, tenant: &Tenant, id: BuildId) -> Result<Option<Build>> {
        let select = sql("SELECT * FROM builds WHERE org_id = $1 AND id = $2");
        let row = self.db.row(select.bind(tenant.org()).bind(id)).await?;
        row.as_ref().map(Build::read).transpose()
    }

    /// The latest builds of a template, newest first.
    pub async fn builds(
        &self,
        tenant: &Tenant,
        template: TemplateId,
        limit: u32,
    ) -> Result<Vec<Build>> {
        let select = sql(
            "SELECT * FROM builds WHERE org_id = $1 AND template_id = $2 ORDER BY id DESC LIMIT $3",
        );
        let select = select.bind(tenant.org()).bind(template).bind(limit);
        let rows = self.db.rows(select).await?;
        rows.iter().map(Build::read).collect()
    }

    /// What this control process had begun and not ended.
    pub async fn open_builds(&self, _: &System, owner: &str) -> Result<Vec<Build>> {
        let select = sql("SELECT * FROM builds WHERE owner = $1 AND ended_at IS NULL ORDER BY id");
        let rows = self.db.rows(select.bind(owner)).await?;
        rows.iter().map(Build::read).collect()
    }

    /// Adds lines to a build's log.
    pub async fn append_log(
        &self,
        tenant: &Tenant,
        build: BuildId,
        lines: &[LogLine],
    ) -> Result<()> {
        let Some((first, more)) = lines.split_first() else {
            return Ok(());
        };
        let insert =
            sql("INSERT INTO build_log (build_id, seq, org_id, ts, level, step, message) VALUES ");
        let mut insert = push_line(insert, tenant, build, first);
        for line in more {
            insert = push_line(insert.push(", "), tenant, build, line);
        }
        self.db.run(insert).await?;
        Ok(())
    }

    /// The number of the last line of a build's log; 0: it has none.
    pub async fn log_length(&self, tenant: &Tenant, build: BuildId) -> Result<u64> {
        let select = sql(
            "SELECT COALESCE(MAX(seq), 0) AS last FROM build_log WHERE org_id = $1 AND build_id = $2",
        );
        let row = self.db.row(select.bind(tenant.org()).bind(build)).await?;
        row.map_or(Ok(0), |row| row.count("last"))
    }

    /// Lines of a build's log after a number.
    pub async fn build_log(
        &self,
        tenant: &Tenant,
        build: BuildId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<LogLine>> {
        let select = sql(
            "SELECT * FROM build_log WHERE org_id = $1 AND build_id = $2 AND seq > $3 ORDER BY seq LIMIT $4",
        );
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let select = select
            .bind(tenant.org())
            .bind(build)
            .bind(after)
            .bind(limit);
        let rows = self.db.rows(select).await?;
        rows.iter().map(LogLine::read).collect()
    }
}

/// Whoever writes several does it in this order: no two wait for each other.
pub(crate) fn in_order(tags: &[String]) -> Vec<&str> {
    let mut tags: Vec<_> = tags.iter().map(String::as_str).collect();
    tags.sort_unstable();
    tags
}

pub(crate) fn put_tag(tenant: &Tenant, build: &Build, tag: &str, at: Timestamp) -> Sql {
    sql(
        "INSERT INTO template_tags (template_id, tag, org_id, build_id, created_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (template_id, tag) \
         DO UPDATE SET build_id = excluded.build_id, created_at = excluded.created_at",
    )
    .bind(build.template_id)
    .bind(tag)
    .bind(tenant.org())
    .bind(build.id)
    .bind(at)
}

fn push_line(insert: Sql, tenant: &Tenant, build: BuildId, line: &LogLine) -> Sql {
    insert
        .push("(")
        .push_bind(build)
        .push(", ")
        .push_bind(i64::try_from(line.seq).unwrap_or(i64::MAX))
        .push(", ")
        .push_bind(tenant.org())
        .push(", ")
        .push_bind(line.ts)
        .push(", ")
        .push_bind(&*line.level)
        .push(", ")
        .push_bind(line.step.clone())
        .push(", ")
        .push_bind(&*line.message)
        .push(")")
}
