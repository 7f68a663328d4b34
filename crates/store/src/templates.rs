//! Templates: names, and tags each of which stands for one finished build.

use jiff::Timestamp;
use skerry_types::{BuildId, OrgId, TemplateId, limits};

use crate::Store;
use crate::builds::{Build, in_order, put_tag};
use crate::context::Tenant;
use crate::error::{Result, StoreError};
use crate::orgs::select_quotas;
use crate::page::{Cursor, Page};
use crate::sql::{Row, Sql, sql};

/// A named image with defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Which.
    pub id: TemplateId,
    /// Whose.
    pub org_id: OrgId,
    /// What people call it; no other of its org has the same.
    pub name: String,
    /// Other orgs may see it.
    pub public: bool,
    /// When it was first built.
    pub created_at: Timestamp,
}

/// A name for a finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The template.
    pub template_id: TemplateId,
    /// The name, behind the template's.
    pub tag: String,
    /// What it stands for.
    pub build_id: BuildId,
    /// Since when.
    pub created_at: Timestamp,
}

impl Template {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: TemplateId::from_uuid(row.get("id")?),
            org_id: OrgId::from_uuid(row.get("org_id")?),
            name: row.get("name")?,
            public: row.get("public")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Tag {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            template_id: TemplateId::from_uuid(row.get("template_id")?),
            tag: row.get("tag")?,
            build_id: BuildId::from_uuid(row.get("build_id")?),
            created_at: row.time("created_at")?,
        })
    }
}

impl Store {
    /// The template with this name, made if there is none. Too many: template limit.
    pub async fn put_template(
        &self,
        tenant: &Tenant,
        name: &str,
        at: Timestamp,
    ) -> Result<Template> {
        if let Some(there) = self.template_named(tenant, name).await? {
            return Ok(there);
        }
        let insert = sql(
            "INSERT INTO templates (id, org_id, name, public, created_at) SELECT $1, $2, $3, FALSE, $4 \
             WHERE (SELECT COUNT(*) FROM templates WHERE org_id = $2) < $5 \
             ON CONFLICT (org_id, name) DO UPDATE SET name = excluded.name RETURNING *",
        )
        .bind(TemplateId::new())
        .bind(tenant.org())
        .bind(name)
        .bind(at)
        .bind(limits::MAX_TEMPLATES);
        let row = self
            .db
            .change_alone(vec![select_quotas(tenant)], insert)
            .await?;
        let row = row.ok_or(StoreError::TemplateLimit {
            limit: limits::MAX_TEMPLATES,
        })?;
        Template::read(&row)
    }

    /// One, by id.
    pub async fn template(&self, tenant: &Tenant, id: TemplateId) -> Result<Option<Template>> {
        let row = self.db.row(one_template(tenant, id)).await?;
        row.as_ref().map(Template::read).transpose()
    }

    /// One, by name.
    pub async fn template_named(&self, tenant: &Tenant, name: &str) -> Result<Option<Template>> {
        let select = sql("SELECT * FROM templates WHERE org_id = $1 AND name = $2");
        let row = self.db.row(select.bind(tenant.org()).bind(name)).await?;
        row.as_ref().map(Template::read).transpose()
    }

    /// A page of them, newest first.
    pub async fn templates(
        &self,
        tenant: &Tenant,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<Template>> {
        let limit = limit.clamp(1, limits::MAX_PAGE);
        let mut select = sql("SELECT * FROM templates WHERE org_id = $1").bind(tenant.org());
        if let Some(cursor) = cursor {
            select = select.push(" AND id < ").push_bind(cursor);
        }
        let select = select.push(" ORDER BY id DESC LIMIT ").push_bind(limit + 1);
        let rows = self.db.rows(select).await?;
        let items: Result<Vec<_>> = rows.iter().map(Template::read).collect();
        Ok(Page::cut(items?, limit, |template| template.id.uuid()))
    }

    /// The tags of one template, by name; of all of the org's, by template, if none is given.
    pub async fn tags(&self, tenant: &Tenant, template: Option<TemplateId>) -> Result<Vec<Tag>> {
        let mut select = sql("SELECT * FROM template_tags WHERE org_id = $1").bind(tenant.org());
        if let Some(template) = template {
            select = select.push(" AND template_id = ").push_bind(template);
        }
        let rows = self
            .db
            .rows(select.push(" ORDER BY template_id, tag"))
            .await?;
        rows.iter().map(Tag::read).collect()
    }

    /// Lets tags of its template stand for a finished build.
    pub async fn put_tags(
        &self,
        tenant: &Tenant,
        build: &Build,
        tags: &[String],
        at: Timestamp,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        for tag in in_order(tags) {
            tx.run(put_tag(tenant, build, tag, at)).await?;
        }
        tx.commit().await
    }

    /// Takes tags away from a template; how many it had.
    pub async fn remove_tags(
        &self,
        tenant: &Tenant,
        template: TemplateId,
        tags: &[String],
    ) -> Result<u64> {
        let mut removed = 0;
        let mut tx = self.db.begin().await?;
        for tag in in_order(tags) {
            let delete = sql(
                "DELETE FROM template_tags WHERE org_id = $1 AND template_id = $2 AND tag = $3",
            );
            let delete = delete.bind(tenant.org()).bind(template).bind(tag);
            removed += tx.run(delete).await?;
        }
        tx.commit().await?;
        Ok(removed)
    }

    /// The finished build that a tag of a template stands for.
    pub async fn tagged(&self, tenant: &Tenant, name: &str, tag: &str) -> Result<Option<Build>> {
        let select = sql("SELECT builds.* FROM templates \
             JOIN template_tags ON template_tags.template_id = templates.id AND tag = $3 \
             JOIN builds ON builds.id = template_tags.build_id \
             WHERE templates.org_id = $1 AND templates.name = $2 AND builds.snapshot_id IS NOT NULL");
        let select = select.bind(tenant.org()).bind(name).bind(tag);
        let row = self.db.row(select).await?;
        row.as_ref().map(Build::read).transpose()
    }

    /// Takes a template off the record, with its tags, builds and their logs, unless one of them is not at its end; whether it did. Its
    /// layers stay until nobody used them for a while.
    pub async fn delete_template(&self, tenant: &Tenant, id: TemplateId) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        // What follows sees every build that was begun before.
        tx.row(one_template(tenant, id).for_update()).await?;
        let delete = sql(
            "DELETE FROM templates WHERE org_id = $1 AND id = $2 AND NOT EXISTS \
             (SELECT 1 FROM builds WHERE template_id = $2 AND ended_at IS NULL)",
        );
        if tx.run(delete.bind(tenant.org()).bind(id)).await? == 0 {
            return Ok(false);
        }
        for what in [
            "DELETE FROM build_log WHERE org_id = $1 AND build_id IN (SELECT id FROM builds WHERE template_id = $2)",
            "DELETE FROM builds WHERE org_id = $1 AND template_id = $2",
            "DELETE FROM template_tags WHERE org_id = $1 AND template_id = $2",
            "DELETE FROM promises WHERE org_id = $1 AND template_id = $2",
        ] {
            tx.run(sql(what).bind(tenant.org()).bind(id)).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}

pub(crate) fn one_template(tenant: &Tenant, id: TemplateId) -> Sql {
    sql("SELECT * FROM templates WHERE org_id = $1 AND id = $2")
        .bind(tenant.org())
        .bind(id)
}
