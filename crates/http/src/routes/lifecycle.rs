//! What can be done to a sandbox while it lives.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use serde::Deserialize;
use skerry_api::{
    Egress, ForkList, ForkMany, ForkSandbox, ForkTree, Metrics, ProcessList, Sandbox, SetTimeout,
};
use skerry_control::{Attempt, Caller, Need, Scope, TimeoutRequest, Until};
use skerry_types::{Error, ErrorCode, SandboxId, SandboxState, limits};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::once::Once;
use crate::{App, check, convert};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(fork_sandbox))
        .routes(routes!(get_fork_tree, fork_many))
        .routes(routes!(set_timeout))
        .routes(routes!(set_egress))
        .routes(routes!(pause_sandbox))
        .routes(routes!(resume_sandbox))
        .routes(routes!(start_sandbox))
        .routes(routes!(ping_sandbox))
        .routes(routes!(get_metrics))
        .routes(routes!(list_processes))
        .routes(routes!(wait_for_sandbox))
}

/// Fork a running sandbox. The parent runs on.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/fork", tag = "forks", params(("id" = String, Path)),
    request_body = ForkSandbox, responses((status = 201, body = Sandbox))
)]
async fn fork_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    once: Once,
    body: Option<Json<ForkSandbox>>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    let request = body.unwrap_or_default().0;
    let work = {
        let (app, caller, request) = (app.clone(), caller.clone(), request.clone());
        move |attempt: Attempt| {
            async move {
                let child = SandboxId::from_uuid(attempt.id);
                let earlier = attempt.earlier_sandbox(&app.control, &caller);
                let made = if let Some(made) = earlier.await? {
                    made
                } else {
                    let request = convert::fork(child, request);
                    app.control.fork(&caller, id, request).await?
                };
                Ok((StatusCode::CREATED, convert::sandbox(made)))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

/// Make several forks of one instant of a running sandbox. The parent runs on, and stands still only once.
///
/// There is a place for all of them, or none is made. Each child is answered with how it went; the request fails if none of them runs.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/forks", tag = "forks", params(("id" = String, Path)),
    request_body = ForkMany, responses((status = 201, body = ForkList))
)]
async fn fork_many(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    once: Once,
    Json(request): Json<ForkMany>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    let work = {
        let (app, caller, request) = (app.clone(), caller.clone(), request.clone());
        move |attempt: Attempt| {
            async move {
                let (control, count) = (&app.control, request.count);
                let request = convert::fork_many(request);
                let forks = control.fork_many(&caller, id, count, request, attempt);
                Ok((StatusCode::CREATED, convert::fork_list(forks.await?)))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

/// The whole family of forks, from any member.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/forks", tag = "forks", params(("id" = String, Path)),
    responses((status = 200, body = ForkTree))
)]
async fn get_fork_tree(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<ForkTree>> {
    caller.require(Scope::SandboxRead)?;
    let tree = app.control.tree(&caller, id).await?;
    Ok(Json(convert::tree(tree)))
}

/// Change when a sandbox ends, and what happens to it then.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/timeout", tag = "sandboxes", params(("id" = String, Path)),
    request_body = SetTimeout, responses((status = 200, body = Sandbox))
)]
async fn set_timeout(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Json(request): Json<SetTimeout>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxWrite)?;
    let request = TimeoutRequest {
        ttl_seconds: request.ttl_seconds,
        only_longer: request.only_longer,
        idle_seconds: request.idle_seconds,
        on_timeout: request.on_timeout.map(convert::on_timeout_in),
        on_idle: request.on_idle.map(convert::on_timeout_in),
        auto_resume: request.auto_resume,
    };
    let changed = app.control.set_timeout(&caller, id, request).await?;
    Ok(Json(convert::sandbox(changed)))
}

/// Say where a sandbox may connect, instead of what was said before: `{}` lifts all rules. Open connections that are forbidden now end.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/egress", tag = "sandboxes", params(("id" = String, Path)),
    request_body = Egress, responses((status = 200, body = Sandbox))
)]
async fn set_egress(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Json(rules): Json<Egress>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxWrite)?;
    let egress = convert::egress_in(rules)?;
    let changed = app.control.set_egress(&caller, id, egress).await?;
    Ok(Json(convert::sandbox(changed)))
}

/// Freeze a sandbox, where its driver can.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/pause", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = Sandbox))
)]
async fn pause_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxWrite)?;
    let paused = app.control.pause(&caller, id).await?;
    Ok(Json(convert::sandbox(paused)))
}

/// Thaw a sandbox.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/resume", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = Sandbox))
)]
async fn resume_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxWrite)?;
    let resumed = app.control.resume(&caller, id).await?;
    Ok(Json(convert::sandbox(resumed)))
}

/// Start a sandbox again that has ended, with the files that it had. Its age and idle limits count anew.
///
/// It needs its name, a place within the quota and one on its node, like a new one. Answered when it runs; one that runs already is left as it is.
/// One that cannot be started stays as it had ended, with its files.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/start", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = Sandbox))
)]
async fn start_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxWrite)?;
    let started = app.control.start_sandbox(&caller, id).await?;
    Ok(Json(convert::sandbox(started)))
}

/// Say that a sandbox is in use: its idle time starts again.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/ping", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 204))
)]
async fn ping_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    app.control.ping(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a sandbox uses now.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/metrics", tag = "sandboxes", params(("id" = String, Path)),
    responses((status = 200, body = Metrics))
)]
async fn get_metrics(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<Metrics>> {
    let node = app
        .node(&caller, Scope::SandboxRead, id, Need::Exists)
        .await?;
    Ok(Json(convert::metrics(node.stats(id).await?)))
}

/// What runs in a sandbox.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/processes", tag = "execs", params(("id" = String, Path)),
    responses((status = 200, body = ProcessList))
)]
async fn list_processes(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<ProcessList>> {
    let node = app.node(&caller, Scope::ExecRead, id, Need::Use).await?;
    let found = node.list_processes(id).await?;
    let processes = found.into_iter().map(convert::process).collect();
    Ok(Json(ProcessList { processes }))
}

/// How long to wait, and for what.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WaitFor {
    /// `running` (the default) or `ended`.
    until: Option<String>,
    /// 1 to 300; 30 unless given.
    timeout_seconds: Option<u64>,
}

/// Wait until a sandbox runs, or has ended.
///
/// 409 when it ended instead of running, 408 when the time was over first.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/wait", tag = "sandboxes",
    params(("id" = String, Path), WaitFor), responses((status = 200, body = Sandbox))
)]
async fn wait_for_sandbox(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(query): Query<WaitFor>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxRead)?;
    let seconds = query.timeout_seconds.unwrap_or(30);
    let most = limits::MAX_SYNC_EXEC_SECONDS;
    let timeout = Duration::from_secs(check::seconds("timeout_seconds", seconds, most)?);
    let until = match query.until.as_deref() {
        None | Some("running") => Until::Ready,
        Some("ended") => Until::Ended,
        Some(_) => return Err(Error::validation("until: must be running or ended").into()),
    };
    let found = app.control.wait_until(&caller, id, until, timeout).await?;
    let reached = match until {
        Until::Ended => found.status.is_ended(),
        _ => matches!(found.status, SandboxState::Running | SandboxState::Paused),
    };
    if reached {
        return Ok(Json(convert::sandbox(found)));
    }
    Err(not_reached(&found).into())
}

fn not_reached(found: &skerry_control::Sandbox) -> Error {
    if found.status.is_ended() {
        let reason = found
            .failure_message
            .as_deref()
            .unwrap_or("it was asked to");
        let message = format!("the sandbox is {}: {reason}", found.status);
        return Error::new(ErrorCode::SandboxNotRunning, message);
    }
    let message = format!("the sandbox is still {}", found.status);
    Error::new(ErrorCode::RequestTimeout, message).with_hint("wait again")
}
