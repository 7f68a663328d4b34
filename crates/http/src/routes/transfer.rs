//! Files and archives, in and out.

use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use skerry_api::{FilePage, FileWritten, ReadFile, UploadForm};
use skerry_control::{Caller, Need, Scope};
use skerry_proto::node::Node;
use skerry_types::{Error, ErrorCode, Result, SandboxId, limits};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::files::{At, Listing, list};
use crate::error::{Answer, Failure};
use crate::extract::{Json, Path, Query};
use crate::form::{self, with_content};
use crate::{App, body, check};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read_files, write_files, delete_files))
        .routes(routes!(read_file))
        .routes(routes!(upload_form))
}

/// What to read.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Reading {
    /// Absolute.
    path: String,
    /// List it instead.
    #[serde(default)]
    list: bool,
    /// Its tree as a tar archive instead.
    #[serde(default)]
    batch: bool,
    /// Of a file: bytes to leave out at the start.
    #[serde(default)]
    offset: u64,
    /// Of a file: at most this many bytes. Of a listing: at most this many entries, 1 to 200; 50 unless given.
    limit: Option<u64>,
    /// Of a listing: levels, 1 to 64; 1 unless given.
    depth: Option<u32>,
    /// Of a listing: `next_cursor` of the page before.
    cursor: Option<String>,
    /// Of an archive: shell patterns of what to leave out, with commas between them: `*.log` at any depth, `/src/**/*.o` from its top.
    exclude: Option<String>,
}

/// Download a file; with `list=true` list a directory, with `batch=true` download its tree as a tar archive.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files", tag = "files",
    params(("id" = String, Path), Reading),
    responses((status = 200, content(
        (Vec<u8> = "application/octet-stream"),
        (FilePage = "application/json"),
        (Vec<u8> = "application/x-tar"),
    )))
)]
async fn read_files(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(query): Query<Reading>,
) -> Answer<Response> {
    let node = app.node(&caller, Scope::FileRead, id, Need::Use).await?;
    match (query.list, query.batch) {
        (false, false) => Ok(send_file(&*node, id, &query.path, query.offset, query.limit).await?),
        (true, false) => {
            let query = Listing {
                path: query.path,
                depth: query.depth,
                cursor: query.cursor,
                limit: query
                    .limit
                    .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            };
            Ok(Json(list(&*node, id, query).await?).into_response())
        }
        (false, true) => {
            let exclude = query.exclude.as_deref().map_or(Vec::new(), |list| {
                list.split(',').map(str::to_owned).collect()
            });
            Ok(send_tree(&*node, id, &query.path, exclude).await?)
        }
        (true, true) => Err(Error::validation("batch: give list or batch, not both").into()),
    }
}

async fn send_file(
    node: &dyn Node,
    id: SandboxId,
    path: &str,
    offset: u64,
    limit: Option<u64>,
) -> Result<Response> {
    const FILE_SIZE: HeaderName = HeaderName::from_static("x-file-size");
    let path = check::path(path)?;
    let (entry, content) = node.read_file(id, path, offset, limit).await?;
    let mut response = body::download(&entry.name, content);
    // A promise of a length would be a lie for files that change or that have no size, such as those of /proc.
    let size = HeaderValue::from(entry.size_bytes);
    response.headers_mut().insert(FILE_SIZE, size);
    Ok(response)
}

async fn send_tree(
    node: &dyn Node,
    id: SandboxId,
    path: &str,
    exclude: Vec<String>,
) -> Result<Response> {
    let path = check::path(path)?;
    let content = node.read_tar(id, path, exclude).await?;
    let name = path.rsplit('/').find(|part| !part.is_empty());
    let name = format!("{}.tar", name.unwrap_or("root"));
    let mut response = body::download(&name, content);
    let tar = HeaderValue::from_static("application/x-tar");
    response
        .headers_mut()
        .insert(axum::http::header::CONTENT_TYPE, tar);
    Ok(response)
}

/// Download a file whose path is in the body.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/read", tag = "files", params(("id" = String, Path)),
    request_body = ReadFile,
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"))
)]
async fn read_file(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Json(request): Json<ReadFile>,
) -> Answer<Response> {
    let node = app.node(&caller, Scope::FileRead, id, Need::Use).await?;
    Ok(send_file(&*node, id, &request.path, 0, None).await?)
}

/// Where and how to write.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Writing {
    /// Absolute.
    path: String,
    /// The body is a tar archive, to be unpacked below `path`.
    #[serde(default)]
    batch: bool,
    /// Permission bits of a file, in octal such as `755`.
    mode: Option<String>,
    /// Who shall own it; the image's user unless given.
    user: Option<String>,
}

/// Upload a file, which appears whole or not at all; with `batch=true` unpack a tar archive.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/files", tag = "files",
    params(("id" = String, Path), Writing),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = FileWritten))
)]
async fn write_files(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(query): Query<Writing>,
    headers: HeaderMap,
    content: Body,
) -> Answer<Json<FileWritten>> {
    let node = app.node(&caller, Scope::FileWrite, id, Need::Use).await?;
    let path = check::path(&query.path)?;
    let user = query.user.as_deref();
    let written = if query.batch {
        let content = body::upload(&app, &headers, content, limits::MAX_ARCHIVE_BYTES)?;
        node.write_tar(id, path, user, content).await?
    } else {
        let mode = query.mode.as_deref().map(octal).transpose()?;
        let content = body::upload(&app, &headers, content, limits::MAX_FILE_BYTES)?;
        let entry = node.write_file(id, path, mode, user, content).await?;
        entry.size_bytes
    };
    Ok(Json(FileWritten {
        path: query.path,
        bytes_written: written,
        batch: query.batch,
    }))
}

pub(super) fn octal(text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| Error::validation("mode: must be octal, such as 755"))
}

/// Remove a file, or a directory with all in it.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}/files", tag = "files",
    params(("id" = String, Path), At), responses((status = 204))
)]
async fn delete_files(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(At { path }): Query<At>,
) -> Answer<StatusCode> {
    let node = app.node(&caller, Scope::FileWrite, id, Need::Use).await?;
    let path = check::path(&path)?;
    if path.split('/').all(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::validation("path: the root cannot be removed").into());
    }
    node.remove(id, path).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Upload a file as a form: the field `path`, then the field `file`.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/write", tag = "files", params(("id" = String, Path)),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 204))
)]
async fn upload_form(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    request: Request,
) -> Answer<StatusCode> {
    let node = app.node(&caller, Scope::FileWrite, id, Need::Use).await?;
    let mut form = form::open(&app, request).await.map_err(|e| {
        Error::new(ErrorCode::UnsupportedMediaType, e.body_text())
            .with_hint("send `Content-Type: multipart/form-data`")
    })?;
    let mut path = None;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match (field.name().unwrap_or_default(), &path) {
            ("path", None) => path = Some(text(field).await?),
            ("file", Some(path)) => {
                let path = check::path(path)?;
                let write = |content| node.write_file(id, path, None, None, content);
                with_content(&app, field, limits::MAX_FILE_BYTES, write).await?;
                return Ok(StatusCode::NO_CONTENT);
            }
            ("file", None) => return Err(Error::validation("path: must come before file").into()),
            (name, _) => {
                let message = format!("{name}: not a field of this form, or a second one");
                return Err(Error::validation(message).into());
            }
        }
    }
    Err(Error::validation("file: is missing").into())
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::BadRequest, error.to_string())
}

async fn text(mut field: Field<'_>) -> Answer<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limits::MAX_PATH_BYTES {
            return Err(Error::validation("path: too long").into());
        }
    }
    String::from_utf8(bytes).map_err(|_| Error::validation("path: must be UTF-8").into())
}
