//! What is in volumes, without a sandbox.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use skerry_api::{FileEntry, FilePage, FileWritten, MakeVolumeDir};
use skerry_control::{Caller, Scope};
use skerry_proto::node::{Node, VolumeAttributes};
use skerry_types::{Result, VolumeId, limits};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::files::{At, depth};
use super::transfer::octal;
use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::{App, body, check, convert};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(
            read_volume_files,
            write_volume_file,
            delete_volume_files
        ))
        .routes(routes!(stat_volume_file))
        .routes(routes!(make_volume_directory))
}

/// The volume, and the way to what is in it.
async fn open(
    app: &App,
    caller: &Caller,
    scope: Scope,
    reference: &str,
) -> Result<(VolumeId, Arc<dyn Node>)> {
    caller.require(scope)?;
    let volume = app.control.volume(caller, reference).await?;
    Ok((volume.id, app.control.node_of_volume(&volume)?))
}

/// What to read.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Reading {
    /// Absolute from the volume's root.
    path: String,
    /// List it instead.
    #[serde(default)]
    list: bool,
    /// Of a listing: at most this many entries, 1 to 200; 50 unless given.
    limit: Option<u32>,
    /// Of a listing: levels, 1 to 64; 1 unless given.
    depth: Option<u32>,
    /// Of a listing: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Download a file of a volume; with `list=true` list a directory. Owners are numbers.
#[utoipa::path(
    get, path = "/v1/volumes/{reference}/files", tag = "volumes",
    params(("reference" = String, Path), Reading),
    responses((status = 200, content(
        (Vec<u8> = "application/octet-stream"),
        (FilePage = "application/json"),
    )))
)]
async fn read_volume_files(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(query): Query<Reading>,
) -> Answer<Response> {
    const FILE_SIZE: HeaderName = HeaderName::from_static("x-file-size");
    let (id, node) = open(&app, &caller, Scope::FileRead, &reference).await?;
    let path = check::path(&query.path)?;
    if query.list {
        return Ok(Json(list(&*node, id, path, &query).await?).into_response());
    }
    let (entry, content) = node.read_in_volume(id, path).await?;
    let mut response = body::download(&entry.name, content);
    let size = HeaderValue::from(entry.size_bytes);
    response.headers_mut().insert(FILE_SIZE, size);
    Ok(response)
}

async fn list(node: &dyn Node, id: VolumeId, path: &str, query: &Reading) -> Result<FilePage> {
    let limit = check::limit(query.limit)?;
    let after = query.cursor.as_deref().map_or(Ok("/"), check::path);
    let after = after.map_err(|_| check::bad_cursor())?;
    let listed = node.list_in_volume(id, path, depth(query.depth)?, after, limit);
    let (entries, more) = listed.await?;
    let last = entries.last().map(|entry| entry.path.clone());
    Ok(FilePage {
        files: entries.into_iter().map(convert::volume_file).collect(),
        next_cursor: last.filter(|_| more),
    })
}

/// Where and how to write.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Writing {
    /// Absolute from the volume's root.
    path: String,
    /// Permission bits, in octal such as `755`; `644` unless given.
    mode: Option<String>,
    /// Number of the owner inside; that of the directory it is in unless given.
    uid: Option<u32>,
    /// Number of the group inside; that of the directory it is in unless given.
    gid: Option<u32>,
}

/// Upload a file into a volume, with the directories on the way. It appears whole or not at all.
#[utoipa::path(
    put, path = "/v1/volumes/{reference}/files", tag = "volumes",
    params(("reference" = String, Path), Writing),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = FileWritten))
)]
async fn write_volume_file(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(query): Query<Writing>,
    headers: HeaderMap,
    content: Body,
) -> Answer<Json<FileWritten>> {
    let (id, node) = open(&app, &caller, Scope::FileWrite, &reference).await?;
    let path = check::path(&query.path)?;
    let attributes = VolumeAttributes {
        mode: query.mode.as_deref().map(octal).transpose()?,
        uid: query.uid,
        gid: query.gid,
    };
    let content = body::upload(&app, &headers, content, limits::MAX_FILE_BYTES)?;
    let written = node.write_in_volume(id, path, true, attributes, content);
    let bytes_written = written.await?.size_bytes;
    Ok(Json(FileWritten {
        path: query.path,
        bytes_written,
        batch: false,
    }))
}

/// Remove a file of a volume, or a directory with all in it.
#[utoipa::path(
    delete, path = "/v1/volumes/{reference}/files", tag = "volumes",
    params(("reference" = String, Path), At), responses((status = 204))
)]
async fn delete_volume_files(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(At { path }): Query<At>,
) -> Answer<StatusCode> {
    let (id, node) = open(&app, &caller, Scope::FileWrite, &reference).await?;
    node.remove_in_volume(id, check::path(&path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is at a path of a volume: a link itself, not its target.
#[utoipa::path(
    get, path = "/v1/volumes/{reference}/files/stat", tag = "volumes",
    params(("reference" = String, Path), At), responses((status = 200, body = FileEntry))
)]
async fn stat_volume_file(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Query(At { path }): Query<At>,
) -> Answer<Json<FileEntry>> {
    let (id, node) = open(&app, &caller, Scope::FileRead, &reference).await?;
    let entry = node.stat_in_volume(id, check::path(&path)?).await?;
    Ok(Json(convert::volume_file(entry)))
}

/// Make a directory in a volume, with its parents. One that is there is fine.
#[utoipa::path(
    post, path = "/v1/volumes/{reference}/files/mkdir", tag = "volumes",
    params(("reference" = String, Path)), request_body = MakeVolumeDir, responses((status = 204))
)]
async fn make_volume_directory(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Json(request): Json<MakeVolumeDir>,
) -> Answer<StatusCode> {
    let (id, node) = open(&app, &caller, Scope::FileWrite, &reference).await?;
    let path = check::path(&request.path)?;
    let attributes = VolumeAttributes::default();
    node.make_dir_in_volume(id, path, true, attributes).await?;
    Ok(StatusCode::NO_CONTENT)
}
