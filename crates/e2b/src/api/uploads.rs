//! Files that builds copy from: whether they are there, and a link to send them to.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use skerry_control::{Caller, Scope};
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
    uri: Uri,
    headers: HeaderMap,
) -> Answer<(StatusCode, Json<Upload>)> {
    caller.require(Scope::SandboxCreate)?;
    let present = api.control().has_upload(&caller, &hash)?;
    let url = (!present).then(|| {
        let ticket = api.control().upload_ticket(&caller, &hash);
        format!("{}/uploads/{ticket}", api.own_url(&uri, &headers))
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

impl Api {
    /// How the client that sent this reaches us.
    fn own_url(&self, uri: &Uri, headers: &HeaderMap) -> String {
        let host = uri.authority().map(axum::http::uri::Authority::as_str);
        let host = host.or_else(|| text(headers, "host")).unwrap_or_default();
        // Below the domain of TLS everything is TLS.
        let below = |domain: &str| {
            host.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let scheme = text(headers, "x-forwarded-proto")
            .or(uri.scheme_str())
            .unwrap_or(match self.domain.as_deref() {
                Some(domain) if below(domain) => "https",
                _ => "http",
            });
        format!("{scheme}://{host}")
    }
}
