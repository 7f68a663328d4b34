//! Builds with an id before anybody said how they are done: some protocols ask for that in two steps.
//!
//! They are kept in memory only. One that is lost, with its server or because nobody came back, leaves no trace.

use std::collections::HashMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use skerry_store::Template;
use skerry_types::{BuildId, Error, ErrorCode, OrgId, Result};

use super::{BuildRequest, Reference};
use crate::validate;
use crate::{Caller, Control};

/// Of one org at once.
const MOST: usize = 64;
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// A build that may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Of this template.
    pub template: Template,
    /// Under this id.
    pub build: BuildId,
    /// What it will be found under.
    pub tags: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Promises(Mutex<HashMap<BuildId, Kept>>);

struct Kept {
    org: OrgId,
    until: Timestamp,
    request: BuildRequest,
}

impl fmt::Debug for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promises").finish_non_exhaustive()
    }
}

impl Promises {
    fn keep(&self, id: BuildId, kept: Kept, now: Timestamp) -> Result<()> {
        let mut all = self.0.lock();
        all.retain(|_, kept| kept.until > now);
        if all.values().filter(|other| other.org == kept.org).count() >= MOST {
            let text = format!("{MOST} builds wait to be told how they are done");
            return Err(Error::new(ErrorCode::QuotaExceeded, text).retry_after(60));
        }
        all.insert(id, kept);
        Ok(())
    }

    fn take(&self, org: OrgId, id: BuildId, now: Timestamp) -> Option<BuildRequest> {
        let mut all = self.0.lock();
        let is_there = all
            .get(&id)
            .is_some_and(|kept| kept.org == org && kept.until > now);
        let kept = is_there.then(|| all.remove(&id))?;
        kept.map(|kept| kept.request)
    }
}

impl Control {
    /// Gives a build its id; what its request says beside the recipe is kept for an hour.
    pub async fn promise_build(&self, caller: &Caller, request: BuildRequest) -> Result<Promise> {
        self.takes_work()?;
        let reference = Reference::of(&request.name);
        reference.check()?;
        let tags = reference.with(&request.tags)?;
        validate::create(&request.setup)?;
        let (tenant, now) = (&caller.tenant, self.now());
        let template = self.0.store.put_template(tenant, reference.name, now);
        let (template, build) = (template.await?, BuildId::new());
        let kept = Kept {
            org: tenant.org(),
            until: now + KEPT_FOR,
            request: BuildRequest {
                id: Some(build),
                ..request
            },
        };
        self.0.promises.keep(build, kept, now)?;
        Ok(Promise {
            template,
            build,
            tags,
        })
    }

    /// What was kept for a build of this template, once.
    pub async fn promised_build(
        &self,
        caller: &Caller,
        template: &str,
        id: BuildId,
    ) -> Result<BuildRequest> {
        let template = self.template(caller, template).await?.template;
        let found = self.0.promises.take(caller.tenant.org(), id, self.now());
        found
            .filter(|request| Reference::of(&request.name).name == template.name)
            .ok_or_else(|| {
                Error::not_found(format!("build {id} of template {}", template.name))
                    .with_hint("it has begun already, or was asked for too long ago")
            })
    }
}
