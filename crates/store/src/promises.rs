//! Builds that have their id before anybody said how they are done: each begins once, within a time.

use jiff::Timestamp;
use skerry_types::{BuildId, TemplateId};

use crate::Store;
use crate::context::Tenant;
use crate::error::Result;
use crate::orgs::select_quotas;
use crate::sql::{Row, sql};

/// What is known of such a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Its id.
    pub build: BuildId,
    /// Of which template.
    pub template: TemplateId,
    /// `name` or `name:tag`, as it was asked for.
    pub name: String,
    /// More tags that it will be found under.
    pub tags: Vec<String>,
    /// Processors' worth of time of what it is done in.
    pub vcpus: Option<u32>,
    /// Memory of that, in MiB.
    pub memory_mb: Option<u32>,
    /// From then on it may not begin.
    pub until: Timestamp,
}

impl Promise {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            build: BuildId::from_uuid(row.get("build_id")?),
            template: TemplateId::from_uuid(row.get("template_id")?),
            name: row.get("name")?,
            tags: row.json("tags")?,
            vcpus: row.count_opt("vcpus")?,
            memory_mb: row.count_opt("memory_mb")?,
            until: row.time("until")?,
        })
    }
}

impl Store {
    /// Puts one on record, and forgets those of the org whose time is over; `false` if it has `most` already.
    pub async fn put_promise(
        &self,
        tenant: &Tenant,
        promise: &Promise,
        most: u32,
        at: Timestamp,
    ) -> Result<bool> {
        let old = sql("DELETE FROM promises WHERE org_id = $1 AND until <= $2");
        self.db.run(old.bind(tenant.org()).bind(at)).await?;
        let insert = sql(
            "INSERT INTO promises (build_id, org_id, template_id, name, tags, vcpus, memory_mb, until) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8 \
             WHERE (SELECT COUNT(*) FROM promises WHERE org_id = $2) < $9 RETURNING *",
        )
        .bind(promise.build)
        .bind(tenant.org())
        .bind(promise.template)
        .bind(promise.name.as_str())
        .bind(serde_json::json!(promise.tags))
        .bind(promise.vcpus)
        .bind(promise.memory_mb)
        .bind(promise.until)
        .bind(most);
        let row = self
            .db
            .change_alone(vec![select_quotas(tenant)], insert)
            .await?;
        Ok(row.is_some())
    }

    /// Takes one of this template off the record, which only one caller does; `None` if there is none, or its time is over.
    pub async fn take_promise(
        &self,
        tenant: &Tenant,
        template: TemplateId,
        build: BuildId,
        at: Timestamp,
    ) -> Result<Option<Promise>> {
        let delete = sql(
            "DELETE FROM promises WHERE org_id = $1 AND template_id = $2 AND build_id = $3 \
             AND until > $4 RETURNING *",
        );
        let delete = delete.bind(tenant.org()).bind(template).bind(build);
        let row = self.db.change(delete.bind(at)).await?;
        row.as_ref().map(Promise::read).transpose()
    }
}
