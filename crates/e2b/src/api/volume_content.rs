//! What is in volumes, for whoever has a volume's token.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use skerry_http::{Answer, Json, Path, Query, upload};
use skerry_proto::node::{FileKind, Node, VolumeAttributes, VolumeEntry};
use skerry_types::{Error, ErrorCode, Result, VolumeId, limits};

use super::Api;
use crate::place::text;
use crate::token;

/// Entries of one answer: these clients know no pages.
const MAX_ENTRIES: u32 = 10_000;
const MAX_DEPTH: u32 = 64;

pub(super) fn routes() -> Router<Api> {
    let below = |path: &str| format!("/volumecontent/{{id}}/{path}");
    Router::new()
        .route(&below("path"), get(stat).patch(change).delete(remove))
        .route(&below("dir"), get(list).post(make_dir))
        .route(&below("file"), get(read).put(write))
}

/// Failures here have a word for a code.
pub(super) fn envelope(error: Error, _request_id: &str) -> Response {
    let Error { code, message, .. } = error;
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({ "code": code.as_str(), "message": message });
    (status, axum::Json(body)).into_response()
}

/// Where, and with which attributes something new.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct At {
    path: String,
    depth: Option<u32>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    force: bool,
}

impl At {
    fn attributes(&self) -> VolumeAttributes {
        VolumeAttributes {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Change {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// An entry as these clients know it.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    atime: Timestamp,
    mtime: Timestamp,
    ctime: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl From<VolumeEntry> for Entry {
    fn from(entry: VolumeEntry) -> Self {
        Self {
            name: entry.name,
            kind: match entry.kind {
                FileKind::File => "file",
                FileKind::Directory => "directory",
                FileKind::Symlink => "symlink",
                FileKind::Other => "unknown",
            },
            path: entry.path,
            size: entry.size_bytes,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            atime: entry.accessed_at,
            mtime: entry.modified_at,
            ctime: entry.changed_at,
            target: entry.symlink_target,
        }
    }
}

impl Api {
    /// The way to a volume, for whoever shows its token.
    async fn content(&self, id: VolumeId, headers: &HeaderMap) -> Result<Arc<dyn Node>> {
        let shown = text(headers, header::AUTHORIZATION.as_str()).unwrap_or_default();
        let shown = shown.strip_prefix("Bearer ").unwrap_or_default();
        if !token::is_volume(self.control(), id, shown) {
            let text = "this is not the token of that volume";
            return Err(Error::new(ErrorCode::Unauthorized, text));
        }
        self.control().opened_volume(id).await
    }
}

async fn stat(
    State(api): State<Api>,
    Path(id): Path<VolumeId>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Answer<Json<Entry>> {
    let node = api.content(id, &headers).await?;
    Ok(Json(node.stat_in_volume(id, &at.path).await?.into()))
}

async fn change(
    State(api): State<Api>,
    Path(id): Path<VolumeId>,
    Query(at): Query<At>,
    headers: HeaderMap,
    Json(Change { mode, uid, gid }): Json<Change>,
) -> Answer<Json<Entry>> {
    let node = api.content(id, &headers).await?;
    let attributes = VolumeAttributes { mode, uid, gid };
    let changed = node.change_in_volume(id, &at.path, attributes);
    Ok(Json(changed.await?.into()))
}

async fn remove(
    State(api): State<Api>,
    Path(id): Path<VolumeId>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let node = api.content(id, &headers).await?;
    node.remove_in_volume(id, &at.path).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list(
    State(api): State<Api>,
    Path(id): Path<VolumeId>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Answer<Json<Vec<Entry>>> {
    let node = api.content(id, &headers).await?;
    let depth = at.depth.unwrap_or(1);
    if !(1..=MAX_DEPTH).contains(&depth) {
        return Err(Error::validation(format!("depth: must be 1 to {MAX_DEPTH}")).into());
    }
    let listed = node.list_in_volume(id, &at.path, depth, "/", MAX_ENTRIES);
    let (entries, more) = listed.await?;
    if more {
        let text = format!("there are more than {MAX_ENTRIES} entries; list a folder below");
        return Err(Error::new(ErrorCode::TooLarge, text).into());
    }
    Ok(Json(entries.into_iter().map(Entry::from).collect()))
}

async fn make_dir(
    State(api): State<Api>,
    Path(id): Path<VolumeId>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Answer<(StatusCode, Json<Entry>)> {
    let node = api.content(id, &headers).await?;
    let made = node.make_dir_in_volume(id, &at.path, at.force, at.attributes());
    Ok((StatusCode::CREATED, Json(made.await?.into())))
}

async fn read(
    State(api): State<Api>,
    Path(id): Path<VolumeId>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Answer<Response> {
    let node = api.content(id, &headers).await?;
    let (_, content) = node.read_in_volume(id, &at.path).await?;
    let mut response = Response::new(Body::from_stream(content));
    let octets = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, octets);
    Ok(response)
}

async fn write(
    State(api): State<Api>,
    Path(id): Path<VolumeId>,
    Query(at): Query<At>,
    headers: HeaderMap,
    content: Body,
) -> Answer<(StatusCode, Json<Entry>)> {
    let node = api.content(id, &headers).await?;
    let content = upload(&api.app, &headers, content, limits::MAX_FILE_BYTES)?;
    let written = node.write_in_volume(id, &at.path, at.force, at.attributes(), content);
    Ok((StatusCode::CREATED, Json(written.await?.into())))
}
