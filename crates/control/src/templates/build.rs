//! Asking for a build, looking at it, following its log, and calling it off.

use std::fmt;

use futures::StreamExt;
use futures::stream::BoxStream;
use skerry_recipe::{Action, Recipe};
use skerry_store::{Build, BuildEnd, BuildStatus, LogLine, Tenant};
use skerry_types::{BuildId, Error, ErrorCode, FailureReason, Result};

use super::Reference;
use super::log::END;
use super::work::Job;
use crate::service::SYSTEM;
use crate::validate;
use crate::{Caller, Control, CreateRequest};

/// Tags of one template.
pub(super) const MAX_TAGS: usize = 64;
/// Builds of one template whose records stay, beside those that a tag stands for.
const KEPT_BUILDS: u32 = 50;
/// Lines of a log that are read at once.
const LOG_PAGE: u32 = 500;

/// A template to build.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BuildRequest {
    /// Its id; a new one unless given.
    pub id: Option<BuildId>,
    /// `name` or `name:tag`.
    pub name: String,
    /// More tags that it is found under.
    pub tags: Vec<String>,
    /// How.
    pub recipe: Recipe,
    /// Get what it starts from out of a registry, if it is not here.
    pub fetch: bool,
    /// User name and password there. They serve this build and are kept nowhere.
    pub login: Option<(String, String)>,
    /// Do every step, whatever was kept of earlier builds.
    pub no_cache: bool,
    /// In what: driver, isolation, privilege, size and network count, and are the template's.
    pub setup: CreateRequest,
}

impl fmt::Debug for BuildRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildRequest")
            .field("name", &self.name)
            .field("recipe", &self.recipe)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Begins to build a template. Returns as soon as the build is on record, waiting for its turn.
    pub async fn start_build(&self, caller: &Caller, request: BuildRequest) -> Result<Build> {
        self.takes_work()?;
        let reference = Reference::of(&request.name);
        reference.check()?;
        request.recipe.check().map_err(Error::validation)?;
        validate::create(&request.setup)?;
        for step in &request.recipe.steps {
            if let Action::Copy { files, .. } = &step.action {
                self.0.uploads.must_have(&caller.tenant, files)?;
            }
        }
        let place = self.0.builds.admit(caller.tenant.org())?;
        let tags = reference.with(&request.tags)?;
        let (store, tenant, now) = (&self.0.store, &caller.tenant, self.now());
        let template = store.put_template(tenant, reference.name, now).await?;
        let known = store.tags(tenant, Some(template.id)).await?;
        let is_new = |tag: &&String| !known.iter().any(|known| known.tag == **tag);
        if known.len() + tags.iter().filter(is_new).count() > MAX_TAGS {
            let text = format!("a template has at most {MAX_TAGS} tags");
            return Err(Error::new(ErrorCode::QuotaExceeded, text)
                .with_hint("use one of them again, or another template"));
        }
        store.trim_builds(tenant, template.id, KEPT_BUILDS).await?;
        let id = request.id.unwrap_or_else(BuildId::new);
        let owner = &self.0.settings.replica;
        let begun = store.begin_build(tenant, id, template.id, &tags, owner, now);
        let build = begun
            .await?
            .ok_or_else(|| Error::conflict("the template was deleted meanwhile"))?;
        let live = self.0.builds.begin(id);
        let job = Job {
            caller: Caller {
                // What the build does is the builder's, not the key's.
                scopes: None,
                ..caller.clone()
            },
            build: build.clone(),
            request,
            live,
            place,
        };
        let control = self.clone();
        self.0
            .tasks
            .spawn(async move { control.work_on(job).await });
        Ok(build)
    }

    /// One build of a template.
    pub async fn build(&self, caller: &Caller, template: &str, id: BuildId) -> Result<Build> {
        let template = self.template(caller, template).await?.template;
        let found = self.0.store.build(&caller.tenant, id).await?;
        found
            .filter(|build| build.template_id == template.id)
            .ok_or_else(|| Error::not_found(format!("build {id} of template {}", template.name)))
    }

    /// Calls a build off; returns when it has ended. One that has is left as it is.
    pub async fn cancel_build(
        &self,
        caller: &Caller,
        template: &str,
        id: BuildId,
    ) -> Result<Build> {
        let build = self.build(caller, template, id).await?;
        if build.status.is_ended() {
            return Ok(build);
        }
        match self.0.builds.find(id) {
            Some(live) => {
                live.cancel("it was cancelled");
                live.ended().await;
            }
            None if !self.build(caller, template, id).await?.status.is_ended() => {
                return Err(Error::new(
                    ErrorCode::ServiceUnavailable,
                    "another server builds it",
                ));
            }
            None => {}
        }
        self.build(caller, template, id).await
    }

    /// The lines of a build's log after a number; with `follow` until its end.
    pub async fn build_log(
        &self,
        caller: &Caller,
        template: &str,
        id: BuildId,
        after: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.build(caller, template, id).await?;
        let (control, tenant) = (self.clone(), caller.tenant);
        let pages = futures::stream::try_unfold(after, move |after| {
            let control = control.clone();
            async move {
                loop {
                    // Looked for before the lines are read, so that none is missed.
                    let live = control.0.builds.find(id).filter(|_| follow);
                    let more = live.as_ref().map(|live| live.lines());
                    let read = control.0.store.build_log(&tenant, id, after, LOG_PAGE);
                    let lines = read.await?;
                    match (lines.last(), more) {
                        (Some(last), _) => {
                            let last = last.seq;
                            return Ok(Some((lines, last)));
                        }
                        (None, None) => return Ok(None),
                        // An end is a change too: then there is no build to look for.
                        (None, Some(mut more)) => drop(more.changed().await),
                    }
                }
            }
        });
        let lines = pages.map(|page: Result<Vec<LogLine>>| {
            let items: Vec<Result<LogLine>> = match page {
                Ok(lines) => lines.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            futures::stream::iter(items)
        });
        Ok(lines.flatten().boxed())
    }

    /// Ends on record what an earlier life of this server did not, and removes what it was done in.
    pub(crate) async fn close_builds(&self) -> Result<()> {
        let store = &self.0.store;
        let open = store.open_builds(&SYSTEM, &self.0.settings.replica);
        for build in open.await? {
            let tenant = Tenant::of(build.org_id);
            let reason = match build.status {
                BuildStatus::Waiting => "interrupted: the server ended before its turn came",
                _ => "interrupted: the server ended while it was built",
            };
            let end = BuildEnd::Error(reason.to_owned());
            store.end_build(&tenant, build.id, end, self.now()).await?;
            let last = LogLine {
                seq: store.log_length(&tenant, build.id).await? + 1,
                ts: self.now(),
                level: END.to_owned(),
                step: None,
                message: reason.to_owned(),
            };
            store.append_log(&tenant, build.id, &[last]).await?;
            if let Some(sandbox) = build.sandbox_id {
                let control = self.clone();
                self.0.tasks.spawn(async move {
                    let removed = control.remove(&tenant, sandbox, FailureReason::SandboxDeleted);
                    if let Err(error) = removed.await {
                        // It may never have been made; otherwise it goes at its age limit.
                        tracing::warn!(%sandbox, %error, "what a build was done in could not be removed");
                    }
                });
            }
        }
        Ok(())
    }
}
