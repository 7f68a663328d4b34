//! Making, finding and ending sandboxes.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use jiff::Timestamp;
use serde::Deserialize;
use skerry_api::{CreateSandbox, DeletedSandbox, Sandbox, SandboxPage, StoppedSandbox};
use skerry_control::{Attempt, Caller, ListQuery, Scope, Until};
use skerry_types::{Error, Result, SandboxId, SandboxState, limits};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::once::Once;
use crate::{App, convert};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_sandbox, list_sandboxes))
        .routes(routes!(get_sandbox, delete_sandbox))
        .routes(routes!(stop_sandbox))
}

/// How long an answer may wait for the sandbox to run.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// Seconds to wait until it runs; 30 unless given, 0: not at all. A queued one is answered at once.
    wait: Option<u64>,
}

/// Make a sandbox.
///
/// Answers when it runs, when it is queued, or when the time to wait is over: look at `status`.
#[utoipa::path(
    post, path = "/v1/sandboxes", tag = "sandboxes", params(Wait),
    request_body = CreateSandbox, responses((status = 201, body = Sandbox))
)]
async fn create_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Wait>,
    once: Once,
    body: Option<Json<CreateSandbox>>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    let request = body.unwrap_or_default().0;
    let wait = wait_time(query.wait)?;
    if request.image.is_some() && request.template.is_some() {
        return Err(Error::validation("template: give image or template, not both").into());
    }
    let work = {
        let (app, caller, request) = (app.clone(), caller.clone(), request.clone());
        move |attempt: Attempt| {
            async move {
                let id = SandboxId::from_uuid(attempt.id);
                let earlier = attempt.earlier_sandbox(&app.control, &caller);
                let made = if let Some(made) = earlier.await? {
                    made
                } else {
                    let request = convert::create(id, request)?;
                    app.control.create(&caller, request).await?
                };
                let made = settle(&app, &caller, made, wait).await?;
                Ok((StatusCode::CREATED, convert::sandbox(made)))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

fn wait_time(asked: Option<u64>) -> Result<Duration> {
    const DEFAULT: u64 = limits::PROVISION_TIMEOUT_SECONDS;
    match asked.unwrap_or(DEFAULT) {
        seconds @ 0..=limits::MAX_SYNC_EXEC_SECONDS => Ok(Duration::from_secs(seconds)),
        seconds => Err(Error::validation(format!(
            "wait is {seconds}; it must be 0 to {}",
            limits::MAX_SYNC_EXEC_SECONDS
        ))),
    }
}

/// Waits for one that is on its way. One in the queue may be there for long, so its caller hears of it at once.
async fn settle(
    app: &App,
    caller: &Caller,
    made: skerry_control::Sandbox,
    wait: Duration,
) -> Result<skerry_control::Sandbox> {
    if made.status != SandboxState::Provisioning || wait.is_zero() {
        return Ok(made);
    }
    app.control
        .wait_until(caller, made.id, Until::Ready, wait)
        .await
}

/// Which sandboxes to list.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only in these states, with commas between them. Deleted ones are listed only when named here.
    status: Option<String>,
    /// Only of this image.
    image: Option<String>,
    /// Only made from this template, by name or id.
    template: Option<String>,
    /// Only those that began to run after this.
    started_after: Option<Timestamp>,
    /// `newest` (unless given) or `oldest` first.
    #[param(inline)]
    first: Option<First>,
    /// Only with this name.
    name: Option<String>,
    /// Only of this project.
    project: Option<String>,
    /// Only forks of this sandbox.
    forked_from: Option<String>,
    /// Only with this note: `key=value`. May be given several times, for all of them.
    #[serde(default)]
    metadata: Vec<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// At most this many, 1 to 200; 50 unless given.
    limit: Option<u32>,
}

/// Which come first in a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum First {
    #[default]
    Newest,
    Oldest,
}

impl Filter {
    fn query(self) -> Result<ListQuery> {
        Ok(ListQuery {
            status: self
                .status
                .iter()
                .flat_map(|list| list.split(','))
                .map(state)
                .collect::<Result<_>>()?,
            image: self.image,
            template: self.template,
            started_after: self.started_after,
            oldest_first: self.first == Some(First::Oldest),
            name: self.name,
            project: self.project,
            forked_from: self.forked_from.map(|id| id.parse()).transpose().map_err(
                |error: skerry_types::ParseIdError| {
                    Error::validation(format!("forked_from: {error}"))
                },
            )?,
            metadata: self
                .metadata
                .iter()
                .map(|text| pair(text))
                .collect::<Result<_>>()?,
            cursor: self.cursor,
            limit: self.limit,
        })
    }
}

fn state(name: &str) -> Result<SandboxState> {
    SandboxState::from_name(name)
        .ok_or_else(|| Error::validation(format!("status: `{name}` is not a state")))
}

fn pair(text: &str) -> Result<(String, String)> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| Error::validation("metadata: write it as key=value"))
}

/// List sandboxes.
#[utoipa::path(
    get, path = "/v1/sandboxes", tag = "sandboxes", params(Filter),
    responses((status = 200, body = SandboxPage))
)]
async fn list_sandboxes(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Answer<Json<SandboxPage>> {
    caller.require(Scope::SandboxRead)?;
    let page = app.control.list(&caller, filter.query()?).await?;
    Ok(Json(SandboxPage {
        sandboxes: page.sandboxes.into_iter().map(convert::sandbox).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Look at a sandbox.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = Sandbox))
)]
async fn get_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxRead)?;
    let found = app.control.get(&caller, id).await?;
    Ok(Json(convert::sandbox(found)))
}

/// Stop a sandbox gently. Its record and journal stay.
///
/// 202 while it is stopping; 200 when it had ended before.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/stop", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 202, body = StoppedSandbox), (status = 200, body = StoppedSandbox))
)]
async fn stop_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<(StatusCode, Json<StoppedSandbox>)> {
    caller.require(Scope::SandboxWrite)?;
    let stopped = app.control.stop(&caller, id).await?;
    let status = if stopped.status.is_ended() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let body = StoppedSandbox {
        sandbox_id: stopped.id,
        status: stopped.status,
    };
    Ok((status, Json(body)))
}

/// Delete a sandbox with all it has, from every state.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = DeletedSandbox))
)]
async fn delete_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<DeletedSandbox>> {
    caller.require(Scope::SandboxWrite)?;
    let deleted = app.control.delete(&caller, id).await?;
    Ok(Json(DeletedSandbox {
        sandbox_id: deleted.id,
        status: deleted.status,
    }))
}
