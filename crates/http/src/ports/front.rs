//! Who may reach a port by its host name: everybody where the sandbox's ports are public, else whoever has a key or a link.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use skerry_control::{Scope, is_key};
use skerry_types::{Error, ErrorCode, Result};

use super::access::{Link, PARAMETER, token_in};
use super::target::Named;
use super::{Target, headers};
use crate::edge::new_request_id;
use crate::error::envelope;
use crate::{App, guard};

/// Answers what is asked of a port; all else goes on to the routes.
pub(crate) async fn front(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(named) = named(&app, &request) else {
        return next.run(request).await;
    };
    let (began, id, method) = (Instant::now(), new_request_id(), request.method().clone());
    let sandbox = named.as_ref().ok().and_then(|named| named.sandbox);
    let answer = match named {
        Ok(named) => answer(&app, named, request).await,
        Err(error) => Err(error),
    };
    let response = answer.unwrap_or_else(|error| envelope(error, &id));
    tracing::info!(
        target: "skerry::access",
        request_id = id,
        %method,
        route = "port",
        sandbox = sandbox.map(tracing::field::display),
        status = response.status().as_u16(),
        duration_us = began.elapsed().as_micros() as u64,
    );
    response
}

pub(super) fn named(app: &App, request: &Request) -> Option<Result<Named>> {
    let host = guard::host(request)?;
    Named::of(&app.settings.domains, guard::name_of(&host))
}

async fn answer(app: &App, Named { port, sandbox }: Named, request: Request) -> Result<Response> {
    if let Some(sandbox) = sandbox.filter(|sandbox| app.control.has_public_ports(*sandbox)) {
        return visit(app, Target { sandbox, port }, request).await;
    }
    if let Some(key) = key(request.headers()) {
        let caller = app.control.authenticate(key).await?;
        let sandbox = sandbox.ok_or_else(|| Error::not_found("the sandbox"))?;
        // Whoever may not use ports is told so before all else.
        caller.require(Scope::PortUse)?;
        return app
            .forward(&caller, Target { sandbox, port }, request)
            .await;
    }
    let target = sandbox.map(|sandbox| Target { sandbox, port });
    let target = target.ok_or_else(no_key)?;
    if let Some((token, path)) = token_in(request.uri()) {
        let link = Link::of(&app.control, target, token).ok_or_else(no_key)?;
        return into_cookie(app, link, &path, request.method());
    }
    let is_good = |token| Link::of(&app.control, target, token).is_some();
    if !headers::cookies(request.headers())
        .filter_map(headers::token)
        .any(is_good)
    {
        return Err(no_key());
    }
    refuse_other_pages(app, &request)?;
    visit(app, target, request).await
}

/// A key of ours. What else stands in these headers is the program's business.
fn key(headers: &HeaderMap) -> Option<&str> {
    const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
    let values = [header::AUTHORIZATION, X_API_KEY].map(|name| headers.get(name));
    let values = values.into_iter().flatten();
    let mut bare = values.filter_map(|value| Some(headers::bare(value.to_str().ok()?)));
    bare.find(|key| is_key(key))
}

/// Lets somebody in who needs no key, or has shown a link.
async fn visit(app: &App, target: Target, request: Request) -> Result<Response> {
    let caller = app.control.inside(target.sandbox).ok_or_else(no_key)?;
    app.forward(&caller, target, request).await
}

/// The same whether there is such a sandbox or not.
fn no_key() -> Error {
    Error::new(
        ErrorCode::Unauthorized,
        "this port needs a key or a link that is still good",
    )
    .with_hint("send a key as `X-API-Key`, or open what `skerry url SANDBOX PORT` prints")
}

/// The browser keeps the link as a cookie, and comes again without it in the address.
fn into_cookie(app: &App, link: Link, path: &str, method: &Method) -> Result<Response> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let text = "a link is opened with GET; what is sent after that needs none";
        return Err(Error::new(ErrorCode::MethodNotAllowed, text));
    }
    let (token, now) = (link.token(&app.control), Timestamp::now());
    let seconds = link.until.as_second() - now.as_second();
    let cookie = format!("{PARAMETER}={token}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Lax");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    for (name, value) in [
        (header::LOCATION, path),
        (header::SET_COOKIE, &cookie),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        let value = HeaderValue::from_str(value).map_err(Error::internal)?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// A cookie goes along with whatever any page asks for. Pages of other ports, and of other sandboxes below the same domain, may only lead here.
fn refuse_other_pages(app: &App, request: &Request) -> Result<()> {
    let headers = request.headers();
    let is = |name: &str, expected: &str| headers.get(name).is_some_and(|is| is == expected);
    let is_opened = *request.method() == Method::GET
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document");
    if is_opened {
        return Ok(());
    }
    let host = guard::host(request).unwrap_or_default();
    guard::refuse_foreign_pages(&app.settings, headers, &host)
}
