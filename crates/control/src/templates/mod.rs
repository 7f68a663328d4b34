//! Templates: names for what builds made, and a source that sandboxes can be made from.

mod archive;
mod build;
mod cache;
mod log;
mod promise;
mod steps;
mod tags;
mod ticket;
mod turns;
mod uploads;
mod work;

use skerry_store::{Build, Cursor, Snapshot, Tag, Template, Tenant};
use skerry_types::{Error, ErrorCode, Result, SandboxState, SnapshotId, TemplateId, limits};

use crate::snapshots::RESERVED;
use crate::validate;
use crate::{Caller, Control};

pub use build::BuildRequest;
pub use promise::{BuildPlan, PromisedBuild};
pub(crate) use uploads::Uploads;
pub(crate) use work::Builds;

/// The tag of who names none.
const LATEST: &str = "latest";
/// Builds of one template that its record shows.
const SHOWN_BUILDS: u32 = 50;

/// A template, and what its tags stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateView {
    /// The template.
    pub template: Template,
    /// Each with the finished build that it stands for.
    pub tags: Vec<Tag>,
}

/// Some templates of a longer list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplatePage {
    /// Newest first.
    pub templates: Vec<TemplateView>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

/// `name` or `name:tag`, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    pub(crate) name: &'a str,
    pub(crate) tag: &'a str,
}

impl<'a> Reference<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let (name, tag) = text.split_once(':').unwrap_or((text, LATEST));
        Self { name, tag }
    }

    /// Its own tag, and more.
    pub(crate) fn with(&self, more: &[String]) -> Result<Vec<String>> {
        let mut tags = vec![self.tag.to_owned()];
        for tag in more {
            validate::name("tag", tag)?;
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        Ok(tags)
    }

    /// A name that can be told from an id.
    pub(crate) fn check(&self) -> Result<()> {
        validate::name("name", self.name)?;
        validate::name("tag", self.tag)?;
        if RESERVED.contains(&self.name) {
            let text = format!("name `{}` is an image's; take another", self.name);
            return Err(Error::new(ErrorCode::Conflict, text));
        }
        let is_id =
            self.name.parse::<TemplateId>().is_ok() || self.name.parse::<SnapshotId>().is_ok();
        if is_id {
            let text = format!("name `{}` is an id; take another", self.name);
            return Err(Error::new(ErrorCode::Conflict, text));
        }
        Ok(())
    }
}

impl Control {
    /// Several, newest first.
    pub async fn templates(
        &self,
        caller: &Caller,
        cursor: Option<String>,
        limit: Option<u32>,
    ) -> Result<TemplatePage> {
        let limit = limit.unwrap_or(limits::DEFAULT_PAGE);
        validate::within("limit", limit.into(), 1, limits::MAX_PAGE)?;
        let cursor = cursor.map(|c| c.parse::<Cursor>()).transpose()?;
        let store = &self.0.store;
        let page = store.templates(&caller.tenant, cursor, limit).await?;
        let tags = store.tags(&caller.tenant, None).await?;
        let templates = page.items.into_iter().map(|template| TemplateView {
            tags: tags
                .iter()
                .filter(|tag| tag.template_id == template.id)
                .cloned()
                .collect(),
            template,
        });
        Ok(TemplatePage {
            templates: templates.collect(),
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        })
    }

    /// One, by id or name; a tag behind the name does not matter.
    pub async fn template(&self, caller: &Caller, reference: &str) -> Result<TemplateView> {
        let store = &self.0.store;
        let found = if let Ok(id) = reference.parse() {
            store.template(&caller.tenant, id).await?
        } else {
            let name = Reference::of(reference).name;
            store.template_named(&caller.tenant, name).await?
        };
        let template = found.ok_or_else(|| {
            Error::not_found(format!("template {}", validate::shown(reference)))
                .with_hint("`skerry template ls` shows those there are")
        })?;
        let tags = store.tags(&caller.tenant, Some(template.id)).await?;
        Ok(TemplateView { template, tags })
    }

    /// Its latest builds, newest first.
    pub async fn builds(&self, caller: &Caller, reference: &str) -> Result<Vec<Build>> {
        let id = self.template(caller, reference).await?.template.id;
        Ok(self
            .0
            .store
            .builds(&caller.tenant, id, SHOWN_BUILDS)
            .await?)
    }

    /// Removes one with all its tags, by id or name. What was made from it lives on, and so does what is being made from it.
    pub async fn delete_template(&self, caller: &Caller, reference: &str) -> Result<()> {
        let template = self.template(caller, reference).await?.template;
        let store = &self.0.store;
        if store.delete_template(&caller.tenant, template.id).await? {
            return Ok(());
        }
        // It is gone meanwhile, or something holds it.
        self.template(caller, reference).await?;
        Err(
            Error::conflict(format!("template {} is being built", template.name))
                .with_hint("wait for the build, or cancel it"),
        )
    }

    /// What a template's name, `name:tag` or id stands for, and the template's name.
    pub(crate) async fn find_template(
        &self,
        tenant: &Tenant,
        reference: &str,
    ) -> Result<Option<(Snapshot, String)>> {
        let store = &self.0.store;
        let by_id = match reference.parse::<TemplateId>() {
            Ok(id) => store
                .template(tenant, id)
                .await?
                .map(|template| template.name),
            Err(_) => None,
        };
        let Reference { name, tag } = Reference::of(by_id.as_deref().unwrap_or(reference));
        let Some(build) = store.tagged(tenant, name, tag).await? else {
            return Ok(None);
        };
        match build.snapshot_id {
            Some(id) => {
                let found = store.snapshot(tenant, id).await?;
                Ok(found.map(|snapshot| (snapshot, name.to_owned())))
            }
            None => Ok(None),
        }
    }

    /// The names of all that can be used.
    pub(crate) async fn template_names(&self, tenant: &Tenant) -> Result<Vec<String>> {
        let page = self
            .0
            .store
            .templates(tenant, None, limits::MAX_PAGE)
            .await?;
        Ok(page
            .items
            .into_iter()
            .map(|template| template.name)
            .collect())
    }

    /// What sandboxes that wait for their place, or are being made, are made from.
    pub(crate) fn sources_in_use(&self) -> Vec<SnapshotId> {
        let states = [SandboxState::Queued, SandboxState::Provisioning];
        let rows = states
            .into_iter()
            .flat_map(|state| self.0.live.in_state(state));
        rows.filter_map(|row| row.image.parse().ok()).collect()
    }
}
