//! Reading sandboxes: one, a page of them, a tree of forks; and forgetting the deleted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use skerry_types::{NodeId, SandboxId, SandboxState, limits};

use crate::context::{System, Tenant};
use crate::error::{Result, StoreError};
use crate::page::{Cursor, Page};
use crate::sandbox::Sandbox;
use crate::sql::{Sql, sql};
use crate::{Store, db::Db};

/// Which sandboxes a list shows. The default: all that are not deleted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In one of these states; empty: in any but deleted.
    pub states: Vec<SandboxState>,
    /// Started from this image.
    pub image: Option<String>,
    /// Made from the template of this name.
    pub template: Option<String>,
    /// With this name.
    pub name: Option<String>,
    /// Of this project.
    pub project: Option<String>,
    /// Forked from this sandbox.
    pub forked_from: Option<SandboxId>,
    /// With all of these names and values.
    pub metadata: BTreeMap<String, String>,
    /// That began to run after this.
    pub started_after: Option<Timestamp>,
    /// The oldest first, not the newest.
    pub oldest_first: bool,
    /// After this place.
    pub cursor: Option<Cursor>,
    /// How many at most, 1 to [`limits::MAX_PAGE`]; else the nearest of these.
    pub limit: u32,
}

impl Store {
    /// One sandbox, deleted or not.
    pub async fn sandbox(&self, tenant: &Tenant, id: SandboxId) -> Result<Sandbox> {
        self.find(one(tenant, id))
            .await?
            .ok_or_else(|| StoreError::NotFound(id.to_string()))
    }

    /// A page of sandboxes, newest first unless asked otherwise.
    pub async fn sandboxes(&self, tenant: &Tenant, filter: &Filter) -> Result<Page<Sandbox>> {
        let limit = filter.limit.clamp(1, limits::MAX_PAGE);
        let rows = self.list(filter.select(tenant, &self.db, limit)).await?;
        Ok(Page::cut(rows, limit, |sandbox| sandbox.id.uuid()))
    }

    /// The whole tree of forks that a sandbox belongs to, oldest first, so that the root is the first and each parent stands before its
    /// children; the deleted are in it.
    pub async fn fork_tree(&self, tenant: &Tenant, member: SandboxId) -> Result<Vec<Sandbox>> {
        let tree = self
            .list(
                sql("SELECT * FROM sandboxes WHERE org_id = $1 AND fork_root = \
                     (SELECT fork_root FROM sandboxes WHERE org_id = $1 AND id = $2) \
                     ORDER BY fork_depth, id")
                .bind(tenant.org())
                .bind(member),
            )
            .await?;
        if tree.is_empty() {
            return Err(StoreError::NotFound(member.to_string()));
        }
        Ok(tree)
    }

    /// A sandbox of whichever org, for a report that names only its id.
    pub async fn sandbox_of_any_org(&self, _: &System, id: SandboxId) -> Result<Sandbox> {
        self.find(sql("SELECT * FROM sandboxes WHERE id = $1").bind(id))
            .await?
            .ok_or_else(|| StoreError::NotFound(id.to_string()))
    }

    /// What a node should have: every sandbox placed on it that has not ended.
    pub async fn sandboxes_on(&self, _: &System, node: NodeId) -> Result<Vec<Sandbox>> {
        self.list(
            sql("SELECT * FROM sandboxes WHERE node_id = $1 AND ended_at IS NULL ORDER BY id")
                .bind(node),
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

    pub(crate) async fn find(&self, sql: Sql) -> Result<Option<Sandbox>> {
        self.db
            .row(sql)
            .await?
            .as_ref()
            .map(Sandbox::read)
            .transpose()
    }

    pub(crate) async fn list(&self, sql: Sql) -> Result<Vec<Sandbox>> {
        self.db.rows(sql).await?.iter().map(Sandbox::read).collect()
    }
}

/// Reads one sandbox of this tenant.
pub(crate) fn one(tenant: &Tenant, id: SandboxId) -> Sql {
    sql("SELECT * FROM sandboxes WHERE org_id = $1 AND id = $2")
        .bind(tenant.org())
        .bind(id)
}

impl Filter {
    fn select(&self, tenant: &Tenant, db: &Db, limit: u32) -> Sql {
        let mut select = sql("SELECT * FROM sandboxes WHERE org_id = $1").bind(tenant.org());
        if self.states.is_empty() {
            select = select.push(" AND state <> 'deleted'");
        } else {
            // Says the same as the states do, in the words of the index of those that live.
            if !self.states.iter().any(|state| state.is_ended()) {
                select = select.push(" AND ended_at IS NULL");
            }
            select = select.push(" AND state IN (");
            for (i, &state) in self.states.iter().enumerate() {
                select = select.push(if i == 0 { "" } else { ", " }).push_bind(state);
            }
            select = select.push(")");
        }
        for (clause, wanted) in [
            (" AND image = ", &self.image),
            (" AND template = ", &self.template),
            (" AND name = ", &self.name),
            (" AND project = ", &self.project),
        ] {
            if let Some(wanted) = wanted {
                select = select.push(clause).push_bind(wanted.as_str());
            }
        }
        if let Some(parent) = self.forked_from {
            select = select.push(" AND forked_from = ").push_bind(parent);
        }
        for (key, value) in &self.metadata {
            select = select
                .push(" AND EXISTS (SELECT 1 FROM ")
                .push(db.each_entry())
                .push("(metadata) AS entry WHERE entry.key = ")
                .push_bind(key.as_str())
                .push(" AND entry.value = ")
                .push_bind(value.as_str())
                .push(")");
        }
        if let Some(after) = self.started_after {
            select = select.push(" AND started_at > ").push_bind(after);
        }
        let (beyond, order) = if self.oldest_first {
            (" AND id > ", " ORDER BY id LIMIT ")
        } else {
            (" AND id < ", " ORDER BY id DESC LIMIT ")
        };
        if let Some(cursor) = self.cursor {
            select = select.push(beyond).push_bind(cursor);
        }
        select.push(order).push_bind(i64::from(limit) + 1)
    }
}
