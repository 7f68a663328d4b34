//! Looking at files and changing them.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::BytesMut;
use futures::StreamExt;
use serde::Deserialize;
use skerry_api::{FileEntry, FilePage, MakeDir, MoveFile, WatchEvent};
use skerry_control::{Caller, Need, Scope};
use skerry_proto::node::{FileChange, Node};
use skerry_types::{Error, Result, SandboxId};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::{App, check, convert, sse};

/// How deep a listing may go.
const MAX_DEPTH: u32 = 64;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(stat_file))
        .routes(routes!(make_directory))
        .routes(routes!(move_file))
        .routes(routes!(watch_files))
}

/// Which entries of a directory to list.
pub(super) struct Listing {
    pub(super) path: String,
    pub(super) depth: Option<u32>,
    pub(super) cursor: Option<String>,
    pub(super) limit: Option<u32>,
}

/// A page of a directory, by path.
pub(super) async fn list(node: &dyn Node, id: SandboxId, query: Listing) -> Result<FilePage> {
    let path = check::path(&query.path)?;
    let limit = check::limit(query.limit)?;
    let depth = depth(query.depth)?;
    let after = query.cursor.as_deref().map_or(Ok(""), check::path);
    let after = after.map_err(|_| check::bad_cursor())?;
    let (entries, more) = node.list_files(id, path, depth, after, limit).await?;
    let last = entries.last().map(|entry| entry.path.clone());
    Ok(FilePage {
        files: entries.into_iter().map(convert::file).collect(),
        next_cursor: last.filter(|_| more),
    })
}

/// Levels of a listing; 1 unless given.
pub(super) fn depth(asked: Option<u32>) -> Result<u32> {
    let depth = asked.unwrap_or(1);
    if (1..=MAX_DEPTH).contains(&depth) {
        return Ok(depth);
    }
    Err(Error::validation(format!(
        "depth is {depth}; it must be 1 to {MAX_DEPTH}"
    )))
}

/// Which entry.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    /// Absolute.
    pub(super) path: String,
}

/// What is at a path: a link itself, not its target.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/stat", tag = "files",
    params(("id" = String, Path), At), responses((status = 200, body = FileEntry))
)]
async fn stat_file(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(At { path }): Query<At>,
) -> Answer<Json<FileEntry>> {
    let node = app.node(&caller, Scope::FileRead, id, Need::Use).await?;
    let entry = node.stat(id, check::path(&path)?).await?;
    Ok(Json(convert::file(entry)))
}

/// Make a directory with its parents. One that is there is fine.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/mkdir", tag = "files", params(("id" = String, Path)),
    request_body = MakeDir, responses((status = 204))
)]
async fn make_directory(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Json(request): Json<MakeDir>,
) -> Answer<StatusCode> {
    let node = app.node(&caller, Scope::FileWrite, id, Need::Use).await?;
    let path = check::path(&request.path)?;
    node.make_dir(id, path, request.user.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rename a file or directory.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/move", tag = "files", params(("id" = String, Path)),
    request_body = MoveFile, responses((status = 204))
)]
async fn move_file(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Json(request): Json<MoveFile>,
) -> Answer<StatusCode> {
    let node = app.node(&caller, Scope::FileWrite, id, Need::Use).await?;
    let (from, to) = (check::path(&request.from)?, check::path(&request.to)?);
    node.move_file(id, from, to).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which directory to watch.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Watching {
    /// The directory.
    path: String,
    /// What is below its directories too.
    #[serde(default)]
    recursive: bool,
}

fn frame(out: &mut BytesMut, change: &FileChange) {
    sse::data(out, change);
}

/// Follow changes below a directory from now on, as server-sent events. They have no numbers: what was missed is gone, so look again.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/watch", tag = "files",
    params(("id" = String, Path), Watching),
    responses((status = 200, body = WatchEvent, content_type = "text/event-stream"))
)]
async fn watch_files(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(query): Query<Watching>,
) -> Answer<Response> {
    let node = app.node(&caller, Scope::FileRead, id, Need::Use).await?;
    let path = check::path(&query.path)?;
    let changes = node.watch_files(id, path, query.recursive).await?;
    Ok(sse::response(changes.boxed(), &app.draining, frame))
}
