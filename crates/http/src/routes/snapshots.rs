//! Sandboxes frozen to disk.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use serde::Deserialize;
use skerry_api::{RollBack, Sandbox, Snapshot, SnapshotPage, TakeSnapshot};
use skerry_control::{Attempt, Caller, Scope, SnapshotQuery, SnapshotRequest};
use skerry_types::{SandboxId, SnapshotId};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::once::Once;
use crate::{App, convert};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(take_snapshot, list_snapshots_of))
        .routes(routes!(roll_back))
        .routes(routes!(list_snapshots))
        .routes(routes!(get_snapshot, remove_snapshot))
}

/// Take a snapshot of a running sandbox. It runs on.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/snapshots", tag = "snapshots", params(("id" = String, Path)),
    request_body = TakeSnapshot, responses((status = 201, body = Snapshot))
)]
async fn take_snapshot(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    once: Once,
    body: Option<Json<TakeSnapshot>>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    let request = body.unwrap_or_default().0;
    let work = {
        let (app, caller, request) = (app.clone(), caller.clone(), request.clone());
        move |attempt: Attempt| {
            async move {
                let snapshot = SnapshotId::from_uuid(attempt.id);
                let reference = snapshot.to_string();
                let earlier = attempt.earlier(app.control.snapshot(&caller, &reference));
                let taken = if let Some(taken) = earlier.await? {
                    taken
                } else {
                    let request = SnapshotRequest {
                        id: Some(snapshot),
                        name: request.name,
                        memory: convert::memory(request.memory),
                        overwrite: request.overwrite,
                        defaults: None,
                    };
                    app.control.take_snapshot(&caller, id, request).await?
                };
                Ok((StatusCode::CREATED, convert::snapshot(taken)))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

/// Which page of snapshots.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListSnapshots {
    /// Where the last page ended.
    cursor: Option<String>,
    /// 1 to 200; 50 unless given.
    limit: Option<u32>,
}

/// List the snapshots of a sandbox, newest first.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/snapshots", tag = "snapshots",
    params(("id" = String, Path), ListSnapshots), responses((status = 200, body = SnapshotPage))
)]
async fn list_snapshots_of(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(query): Query<ListSnapshots>,
) -> Answer<Json<SnapshotPage>> {
    caller.require(Scope::SandboxRead)?;
    // That of another tenant is not there.
    app.control.get(&caller, id).await?;
    list(&app, &caller, Some(id), query).await
}

/// List snapshots, newest first.
#[utoipa::path(
    get, path = "/v1/snapshots", tag = "snapshots", params(ListSnapshots),
    responses((status = 200, body = SnapshotPage))
)]
async fn list_snapshots(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListSnapshots>,
) -> Answer<Json<SnapshotPage>> {
    caller.require(Scope::SandboxRead)?;
    list(&app, &caller, None, query).await
}

async fn list(
    app: &App,
    caller: &Caller,
    sandbox: Option<SandboxId>,
    query: ListSnapshots,
) -> Answer<Json<SnapshotPage>> {
    let query = SnapshotQuery {
        sandbox,
        cursor: query.cursor,
        limit: query.limit,
    };
    let page = app.control.snapshots(caller, query).await?;
    Ok(Json(SnapshotPage {
        snapshots: page.snapshots.into_iter().map(convert::snapshot).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Look at a snapshot, by id or name.
#[utoipa::path(
    get, path = "/v1/snapshots/{reference}", tag = "snapshots",
    params(("reference" = String, Path)), responses((status = 200, body = Snapshot))
)]
async fn get_snapshot(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<Json<Snapshot>> {
    caller.require(Scope::SandboxRead)?;
    let found = app.control.snapshot(&caller, &reference).await?;
    Ok(Json(convert::snapshot(found)))
}

/// Remove a snapshot, by id or name, once nobody is making anything from it. Sandboxes that were made from it live on.
#[utoipa::path(
    delete, path = "/v1/snapshots/{reference}", tag = "snapshots",
    params(("reference" = String, Path)), responses((status = 204))
)]
async fn remove_snapshot(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    app.control.remove_snapshot(&caller, &reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Put a running or paused sandbox back to one of its own snapshots. It runs afterwards.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/rollback", tag = "snapshots", params(("id" = String, Path)),
    request_body = RollBack, responses((status = 200, body = Sandbox))
)]
async fn roll_back(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Json(request): Json<RollBack>,
) -> Answer<Json<Sandbox>> {
    caller.require(Scope::SandboxWrite)?;
    let back = app
        .control
        .roll_back(&caller, id, &request.snapshot)
        .await?;
    Ok(Json(convert::sandbox(back)))
}
