//! Files that builds copy from: whether they are there, and a link to send them to.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use skerry_control::{Caller, Scope};
use skerry_http::ports::Way;
use skerry_http::{Answer, Json, Path, upload};
use skerry_types::limits;

use super::Api;
use crate::place::text;

#[derive(Debug, Serialize)]
pub(super) struct Upload {
    present: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

pub(super) async fn link(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((_template, hash)): Path<(String, String)>,
    way: Way,
    headers: HeaderMap,
) -> Answer<(StatusCode, Json<Upload>)> {
    caller.require(Scope::SandboxCreate)?;
    let present = api.control().has_upload(&caller, &hash)?;
    let url = (!present).then(|| {
        let ticket = api.control().upload_ticket(&caller, &hash);
        format!("{}/uploads/{ticket}", own_url(&way, &headers))
    });
    Ok((StatusCode::CREATED, Json(Upload { present, url })))
}

/// Whoever has the link needs no key.
pub(super) async fn put(
    State(api): State<Api>,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    content: Body,
) -> Answer<StatusCode> {
    let archive = upload(&api.app, &headers, content, limits::MAX_ARCHIVE_BYTES)?;
    api.control().upload_with(&ticket, archive).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How the client that sent this reaches us; a proxy before us may know better how it is spoken to.
fn own_url(way: &Way, headers: &HeaderMap) -> String {
    let scheme = text(headers, "x-forwarded-proto").unwrap_or(way.scheme);
    format!("{scheme}://{}", way.host)
}
