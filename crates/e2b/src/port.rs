//! Ports of sandboxes, beside `envd`, as these clients reach them: whoever has a token of the sandbox gets in, and everybody where its ports are
//! public.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use skerry_control::Control;
use skerry_http::App;
use skerry_http::ports::Target;
use skerry_types::{ErrorCode, SandboxId};

use crate::error::{Failure, closed_port, no_sandbox};
use crate::place::{Place, text};
use crate::token;

/// Said to this server, and to no program inside.
const TOKENS: [&str; 2] = [TRAFFIC, ENVD];
const TRAFFIC: &str = "e2b-traffic-access-token";
const ENVD: &str = "x-access-token";

/// Passes a request on to what listens there.
pub(crate) async fn pass(
    app: &App,
    place: &Place,
    sandbox: SandboxId,
    mut request: Request,
) -> Response {
    let control = app.control();
    let Some(caller) = control.inside(sandbox) else {
        return no_sandbox(place);
    };
    if !control.has_public_ports(sandbox) && !has_token(control, sandbox, request.headers()) {
        let text = "the ports of this sandbox need its traffic access token";
        return Failure::new(StatusCode::FORBIDDEN, text).into_response();
    }
    for name in TOKENS {
        request.headers_mut().remove(name);
    }
    let port = place.port;
    match app
        .forward(&caller, Target { sandbox, port }, request)
        .await
    {
        Ok(answer) => answer,
        Err(error) if error.code == ErrorCode::PortClosed => closed_port(place),
        Err(error) if is_absent(error.code) => no_sandbox(place),
        Err(error) => Failure::from(error).into_response(),
    }
}

fn has_token(control: &Control, sandbox: SandboxId, headers: &HeaderMap) -> bool {
    let is = |name, opens: fn(&Control, SandboxId, &str) -> bool| {
        text(headers, name).is_some_and(|token| opens(control, sandbox, token))
    };
    is(TRAFFIC, token::is_traffic) || is(ENVD, token::is_envd)
}

/// It cannot be used, for whatever reason.
fn is_absent(code: ErrorCode) -> bool {
    use ErrorCode::{Gone, NodeUnreachable, NotFound, SandboxNotRunning};
    matches!(code, Gone | NodeUnreachable | NotFound | SandboxNotRunning)
}
