//! Who gets into a sandbox, and as which of its users.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use skerry_control::{Caller, Kind, Need};
use skerry_http::{App, Failure};
use skerry_proto::node::{FileEntry, Node};
use skerry_types::{Error, ErrorCode, Result, SandboxId};

use super::files::{Access, FILES};
use super::path::resolve;
use crate::place::{Place, text};
use crate::{error, token};

/// A sandbox that runs, for somebody who may use it. An extension of every request that gets in.
#[derive(Clone)]
pub(crate) struct Inside {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) sandbox: SandboxId,
    pub(crate) caller: Caller,
    /// Whom the client names; `None`: the image's user.
    pub(crate) user: Option<String>,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside")
            .field("sandbox", &self.sandbox)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Inside {
    /// Where a path leads for the user of this request.
    pub(crate) async fn path(&self, path: &str) -> Result<String> {
        resolve(self, self.user.as_deref(), path).await
    }

    /// What is at a path, if there is something.
    pub(crate) async fn look(&self, path: &str) -> Result<Option<FileEntry>> {
        absent_is_fine(self.node.stat(self.sandbox, path).await)
    }
}

/// Makes nothing of what is not there.
pub(crate) fn absent_is_fine<T>(done: Result<T>) -> Result<Option<T>> {
    match done {
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Lets a request into the sandbox that its [`Place`] names. One that does not run is not found, whatever the request shows.
pub(crate) async fn enter(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(place) = parts.extensions.get::<Place>().cloned() else {
        return Failure(Error::internal("a request without a place")).into_response();
    };
    let Some(inside) = inside(&app, &place, &parts.headers).await else {
        return error::no_sandbox(&place);
    };
    if let Err(error) = admit(&app, &inside, &parts).await {
        return Failure(error).into_response();
    }
    parts.extensions.insert(inside);
    next.run(Request::from_parts(parts, body)).await
}

async fn inside(app: &App, place: &Place, headers: &HeaderMap) -> Option<Inside> {
    let (control, sandbox) = (app.control(), place.sandbox?);
    let caller = control.inside(sandbox)?;
    let node = control.authorize(&caller, sandbox, Need::Use).await;
    Some(Inside {
        node: node.ok()?,
        sandbox,
        caller,
        user: user(headers),
    })
}

async fn admit(app: &App, inside: &Inside, parts: &Parts) -> Result<()> {
    let path = parts.uri.path();
    match (&parts.method, path) {
        (&Method::GET, "/health") => return Ok(()),
        (&Method::GET | &Method::POST, FILES) => {
            if !Access::of(&parts.method, &parts.uri, &parts.headers)
                .is_enough(app.control(), inside.sandbox)
            {
                return Err(unauthorized());
            }
        }
        _ => {
            let token = text(&parts.headers, "x-access-token").unwrap_or_default();
            if !token::is_envd(app.control(), inside.sandbox, token) {
                return Err(unauthorized());
            }
        }
    }
    let kind = match path {
        "/process.Process/Start" => Kind::Exec,
        _ => Kind::Other,
    };
    let standing = app.control().count(&inside.caller, kind).await?;
    standing.map_or(Ok(()), |standing| standing.admit())
}

/// What clients know from the original.
pub(crate) fn unauthorized() -> Error {
    const MESSAGE: &str =
        "unauthorized access, please provide a valid access token or method signing if supported";
    Error::new(ErrorCode::Unauthorized, MESSAGE)
}

/// The user of `Authorization: Basic`, whose password is empty.
fn user(headers: &HeaderMap) -> Option<String> {
    let (scheme, value) = text(headers, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, _password) = pair.split_once(':')?;
    (!name.is_empty()).then(|| name.to_owned())
}
