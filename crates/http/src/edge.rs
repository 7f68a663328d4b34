//! The one layer around every route: an id for the request, the guards, the envelope, the log, and no panic gets further.
//!
//! Protocols differ in how they tell of failures and in whom they ask for a key; the rest is the same for all.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use skerry_control::Standing;
use skerry_types::{Error, ErrorCode, SandboxId};
use uuid::Uuid;

use crate::error::Failure;
use crate::{App, guard};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who may use a protocol's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Whoever has a key; pages of other sites only where the operator said so.
    Key,
    /// Whoever has a key, from any page: clients send it by hand.
    KeyFromAnywhere,
    /// Its routes look for themselves.
    Open,
}

/// What is one protocol's own at the edge. The state of [`edge`].
#[derive(Debug, Clone)]
pub struct Protocol {
    /// What its routes reach.
    pub app: App,
    /// Who gets in.
    pub entry: Entry,
    /// Gives a failure its status and body; the second is the request's id.
    pub envelope: fn(Error, &str) -> Response,
}

/// See the module; for [`axum::middleware::from_fn_with_state`].
pub async fn edge(State(protocol): State<Protocol>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let app = &protocol.app;
    let id = new_request_id();
    let line = Line::of(&request);
    let mut standing = None;
    let mut response = AssertUnwindSafe(answer(&protocol, request, next, &mut standing))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Failure(Error::internal("something broke in here")).into_response());
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        if response.status().is_server_error() {
            tracing::error!(request_id = %id, error = %failure.0, "request failed");
        }
        response = (protocol.envelope)(failure.0, &id);
    }
    finish(app, &mut response, &id);
    if let Some(standing) = standing {
        say(standing, &mut response);
    }
    line.log(&id, &response, began);
    response
}

async fn answer(
    Protocol { app, entry, .. }: &Protocol,
    mut request: Request,
    next: Next,
    standing: &mut Option<Standing>,
) -> Response {
    if let Err(error) = guard::admit(app, *entry, &mut request, standing).await {
        return Failure(error).into_response();
    }
    if app.draining.is_cancelled() && !is_safe(request.method()) {
        let error = Error::new(ErrorCode::ServiceUnavailable, "the server is ending");
        return Failure(error.retry_after(1)).into_response();
    }
    next.run(request).await
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn finish(app: &App, response: &mut Response, id: &str) {
    let draining = app.draining.is_cancelled();
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    // What a sandbox wrote must never be taken for a page of ours.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if draining {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Says where the org stands within its limit of requests.
fn say(standing: Standing, response: &mut Response) {
    let reset = standing.reset.as_second().unsigned_abs();
    for (name, value) in [
        ("x-ratelimit-limit", standing.limit.into()),
        ("x-ratelimit-remaining", standing.remaining.into()),
        ("x-ratelimit-reset", reset),
    ] {
        let name = HeaderName::from_static(name);
        response
            .headers_mut()
            .insert(name, HeaderValue::from(value));
    }
}

pub(crate) fn new_request_id() -> String {
    let digits = skerry_types::id::base62_encode(Uuid::now_v7().as_u128());
    format!("req_{digits}")
}

/// What the log says of a request: never a query, a header or a body, which may hold secrets.
struct Line {
    method: Method,
    route: Option<MatchedPath>,
    sandbox: Option<SandboxId>,
}

impl Line {
    fn of(request: &Request) -> Self {
        let path = request.uri().path();
        let sandbox = path
            .split_once("/sandboxes/")
            .and_then(|(_, rest)| rest.split('/').next())
            .and_then(|id| id.parse().ok());
        Self {
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            sandbox,
        }
    }

    fn log(&self, request_id: &str, response: &Response, began: Instant) {
        tracing::info!(
            target: "skerry::access",
            request_id,
            method = %self.method,
            route = self.route.as_ref().map_or("-", MatchedPath::as_str),
            sandbox = self.sandbox.map(tracing::field::display),
            status = response.status().as_u16(),
            duration_us = began.elapsed().as_micros() as u64,
        );
    }
}
