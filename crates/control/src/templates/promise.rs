//! Builds with an id before anybody said how they are done: some protocols ask for that in two steps.

use jiff::SignedDuration;
use skerry_store::{Promise, Template};
use skerry_types::{BuildId, Error, ErrorCode, Result};

use super::{BuildRequest, Reference};
use crate::validate;
use crate::{Caller, Control, CreateRequest};

/// Of one org at once.
const MOST: u32 = 64;
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// A build to come: all but how it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildPlan {
    /// `name` or `name:tag`.
    pub name: String,
    /// More tags that it is found under.
    pub tags: Vec<String>,
    /// Processors' worth of time of what it is done in, and of what is made from it.
    pub vcpus: Option<u32>,
    /// Memory of those, in MiB.
    pub memory_mb: Option<u32>,
}

/// A build that may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromisedBuild {
    /// Of this template.
    pub template: Template,
    /// Under this id.
    pub build: BuildId,
    /// What it will be found under.
    pub tags: Vec<String>,
}

impl Control {
    /// Gives a build its id; it may begin within an hour.
    pub async fn promise_build(&self, caller: &Caller, plan: BuildPlan) -> Result<PromisedBuild> {
        self.takes_work()?;
        let reference = Reference::of(&plan.name);
        reference.check()?;
        let tags = reference.with(&plan.tags)?;
        let (store, tenant, now) = (&self.0.store, &caller.tenant, self.now());
        let template = store.put_template(tenant, reference.name, now).await?;
        let promise = Promise {
            build: BuildId::new(),
            template: template.id,
            name: plan.name,
            tags: plan.tags,
            vcpus: plan.vcpus,
            memory_mb: plan.memory_mb,
            until: now + KEPT_FOR,
        };
        validate::create(&setup(&promise))?;
        if !store.put_promise(tenant, &promise, MOST, now).await? {
            let text = format!("{MOST} builds wait to be told how they are done");
            return Err(Error::new(ErrorCode::QuotaExceeded, text).retry_after(60));
        }
        Ok(PromisedBuild {
            template,
            build: promise.build,
            tags,
        })
    }

    /// What is known of a build of this template that was promised, once.
    pub async fn promised_build(
        &self,
        caller: &Caller,
        template: &str,
        id: BuildId,
    ) -> Result<BuildRequest> {
        let template = self.template(caller, template).await?.template;
        let (store, tenant) = (&self.0.store, &caller.tenant);
        let taken = store.take_promise(tenant, template.id, id, self.now());
        let promise = taken.await?.ok_or_else(|| {
            Error::not_found(format!("build {id} of template {}", template.name))
                .with_hint("it has begun already, or was asked for too long ago")
        })?;
        Ok(BuildRequest {
            id: Some(id),
            setup: setup(&promise),
            name: promise.name,
            tags: promise.tags,
            ..BuildRequest::default()
        })
    }
}

fn setup(promise: &Promise) -> CreateRequest {
    CreateRequest {
        vcpus: promise.vcpus,
        memory_mb: promise.memory_mb,
        ..CreateRequest::default()
    }
}
