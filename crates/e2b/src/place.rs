//! Which sandbox, and which of its ports, a request is for.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Request, header};
use skerry_control::Control;
use skerry_types::SandboxId;

use crate::envd::Access;
use crate::token;

/// Where clients believe `envd` to be.
pub(crate) const ENVD_PORT: u16 = 49983;
/// Where the code interpreter is.
pub(crate) const INTERPRETER_PORT: u16 = 49999;

/// What a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which sandbox, as the client wrote it.
    pub(crate) name: String,
    /// The same, if such an id can be.
    pub(crate) sandbox: Option<SandboxId>,
    /// Which port.
    pub(crate) port: u16,
}

impl Place {
    fn new(name: &str, port: u16) -> Self {
        // Early clients put the id of a machine behind it.
        let name = name.split('-').next().unwrap_or_default();
        Self {
            name: name.to_owned(),
            sandbox: name.parse().ok(),
            port,
        }
    }

    /// The place of a request; `None`: it is for the control plane.
    pub(crate) fn of<B>(control: &Control, request: &Request<B>) -> Option<Self> {
        let headers = request.headers();
        // Some clients send the same headers when they ask the control plane about a sandbox.
        let is_about_one = request.uri().path().starts_with("/sandboxes/");
        let by_headers = || by_header(headers).or_else(|| by_token(control, headers));
        Self::by_name(request)
            .or_else(|| by_headers().filter(|place| place.port != ENVD_PORT || !is_about_one))
            .or_else(|| by_signature(control, request))
    }

    /// `49983-{id}.{domain}`. Other ports are the port gateway's.
    pub(crate) fn by_name<B>(request: &Request<B>) -> Option<Self> {
        let authority = request.uri().authority().map(Authority::as_str);
        let host = authority.or_else(|| text(request.headers(), header::HOST.as_str()))?;
        let (label, _domain) = host.split_once('.')?;
        let (port, name) = label.split_once('-')?;
        let port = port.parse().ok()?;
        matches!(port, ENVD_PORT | INTERPRETER_PORT).then(|| Self::new(name, port))
    }

    /// The place of a request that can only be for a sandbox and names none.
    pub(crate) fn nowhere() -> Self {
        Self::new("", ENVD_PORT)
    }
}

fn by_header(headers: &HeaderMap) -> Option<Place> {
    let name = text(headers, "e2b-sandbox-id")?;
    let port = match text(headers, "e2b-sandbox-port") {
        Some(port) => port.parse().ok()?,
        None => ENVD_PORT,
    };
    Some(Place::new(name, port))
}

fn by_token(control: &Control, headers: &HeaderMap) -> Option<Place> {
    let sandbox = token::sandbox_of(control, text(headers, "x-access-token")?)?;
    Some(Place::new(&sandbox.label(), ENVD_PORT))
}

/// Links to files are all that some clients have of a sandbox.
fn by_signature<B>(control: &Control, request: &Request<B>) -> Option<Place> {
    let access = Access::of(request.method(), request.uri(), request.headers());
    let sandbox = access.sandbox(control)?;
    Some(Place::new(&sandbox.label(), ENVD_PORT))
}

/// A header's value, if it is there and text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
