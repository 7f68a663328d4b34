//! Looking at sandboxes.

use axum::extract::{Extension, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use skerry_control::{Caller, ListQuery, Scope};
use skerry_http::ports::Way;
use skerry_http::{Answer, Json, Path, Query};
use skerry_types::{Error, Result, SandboxState};

use super::Api;
use super::id::Named;
use super::shape::{Detail, listed};

pub(super) const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");
/// As many at once as these clients know.
const PAGE: u32 = 100;

/// Which sandboxes to list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Filter {
    state: Vec<String>,
    metadata: Option<String>,
    template: Option<String>,
    started_after: Option<Timestamp>,
    order: Option<String>,
    next_token: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Answer<Response> {
    page(&api, &caller, filter.query()?).await
}

/// The first generation: what runs, all on one page.
pub(super) async fn list_running(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Answer<Response> {
    caller.require(Scope::SandboxRead)?;
    let mut query = ListQuery {
        status: vec![SandboxState::Running],
        limit: None,
        ..filter.query()?
    };
    let mut sandboxes = Vec::new();
    loop {
        let page = api.control().list(&caller, query.clone()).await?;
        sandboxes.extend(page.sandboxes.into_iter().map(listed));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(Json(sandboxes).into_response());
        }
    }
}

async fn page(api: &Api, caller: &Caller, query: ListQuery) -> Answer<Response> {
    caller.require(Scope::SandboxRead)?;
    let page = api.control().list(caller, query).await?;
    let sandboxes: Vec<_> = page.sandboxes.into_iter().map(listed).collect();
    Ok(paged(Json(sandboxes), page.next_cursor))
}

/// A page, with where the next begins in its head.
pub(super) fn paged(page: impl IntoResponse, next: Option<String>) -> Response {
    let mut response = page.into_response();
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        response.headers_mut().insert(NEXT_TOKEN, next);
    }
    response
}

impl Filter {
    fn query(self) -> Result<ListQuery> {
        let states = self.state.iter().flat_map(|list| list.split(','));
        let mut status: Vec<_> = states.map(state).collect::<Result<_>>()?;
        if status.is_empty() {
            status = vec![SandboxState::Running, SandboxState::Paused];
        }
        let oldest_first = match self.order.as_deref() {
            Some("asc") => true,
            Some("desc") | None => false,
            Some(_) => return Err(Error::validation("order: must be asc or desc")),
        };
        let metadata = self.metadata.unwrap_or_default();
        Ok(ListQuery {
            status,
            template: self.template,
            started_after: self.started_after,
            oldest_first,
            metadata: form_urlencoded::parse(metadata.as_bytes())
                .map(|(name, value)| (unquoted(&name), unquoted(&value)))
                .collect(),
            cursor: self.next_token.filter(|token| !token.is_empty()),
            limit: Some(self.limit.unwrap_or(PAGE)),
            ..ListQuery::default()
        })
    }
}

fn state(name: &str) -> Result<SandboxState> {
    match name {
        "running" => Ok(SandboxState::Running),
        "paused" => Ok(SandboxState::Paused),
        _ => Err(Error::validation("state: must be running, paused or both")),
    }
}

/// Clients quote names and values of metadata once more before they write the form.
fn unquoted(text: &str) -> String {
    // Of a form only the quoting is meant.
    let form = text
        .replace('+', "%2B")
        .replace('&', "%26")
        .replace('=', "%3D");
    form_urlencoded::parse(form.as_bytes())
        .next()
        .map(|(text, _)| text.into_owned())
        .unwrap_or_default()
}

pub(super) async fn detail(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    way: Way,
) -> Answer<Json<Detail>> {
    let found = api.find(&caller, Scope::SandboxRead, id).await?;
    Ok(Json(api.detail(&caller, found, way)))
}
