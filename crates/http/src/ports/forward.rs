//! Passing one request on to a program in a sandbox, over a connection of its own: nothing that one client said can be taken for another's.

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::response::Response;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use skerry_control::{Caller, Kind, Need, Scope};
use skerry_types::{Error, ErrorCode, Result};
use tokio_util::sync::CancellationToken;

use super::address::{Peer, scheme};
use super::{Target, headers, wire};
use crate::{App, guard};

/// The head of an answer may be this large, and so much of a body is held.
const HELD_BYTES: usize = 64 * 1024;

impl App {
    /// Whether a request's host name is that of a port of a sandbox. [`crate::router`] answers all of those itself.
    pub fn names_port(&self, request: &Request) -> bool {
        super::front::named(self, request).is_some()
    }

    /// Passes a request on to a program in a sandbox, and its answer back; both are streams, and what they agree to speak instead of HTTP passes
    /// as well. Nothing listens, or it breaks off: [`ErrorCode::PortClosed`].
    pub async fn forward(
        &self,
        caller: &Caller,
        target: Target,
        mut request: Request,
    ) -> Result<Response> {
        let node = self.node(caller, Scope::PortUse, target.sandbox, Need::Use);
        let node = node.await?;
        if let Some(standing) = self.control.count(caller, Kind::Port).await? {
            standing.admit()?;
        }
        let upgrade = headers::upgrade(request.headers());
        let client = upgrade.as_ref().map(|_| on(&mut request));
        let request = to_program(request, upgrade)?;
        let io = wire::connect(node.as_ref(), target).await?;
        let (mut program, connection) = http1::Builder::new()
            .max_buf_size(HELD_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| broke_off(&error))?;
        // It ends with the request, or with whoever waits for the answer.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a program broke");
            }
        });
        let answer = program.send_request(request).await;
        to_client(
            answer.map_err(|error| broke_off(&error))?,
            client,
            self.draining.clone(),
        )
    }
}

fn broke_off(error: &hyper::Error) -> Error {
    tracing::debug!(%error, "a program gave no answer");
    let text = "the program in the sandbox broke off before it answered, or speaks no HTTP";
    Error::new(ErrorCode::PortClosed, text)
}

/// The request as the program gets it.
fn to_program(request: Request, upgrade: Option<HeaderValue>) -> Result<Request> {
    if request.method() == Method::CONNECT {
        let text = "a port of a sandbox is no proxy";
        return Err(Error::new(ErrorCode::MethodNotAllowed, text));
    }
    let scheme = HeaderValue::from_static(scheme(request.extensions()));
    let client = request.extensions().get().and_then(Peer::value);
    let host = guard::host(&request).and_then(|host| HeaderValue::from_str(&host).ok());
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    parts.version = Version::HTTP_11;
    headers::strip(&mut parts.headers);
    headers::hide(&mut parts.headers);
    let connection = match &upgrade {
        Some(_) => HeaderValue::from_static("upgrade"),
        None => HeaderValue::from_static("close"),
    };
    let said = [
        (header::HOST, host.clone()),
        (HeaderName::from_static("x-forwarded-for"), client),
        (HeaderName::from_static("x-forwarded-host"), host),
        (HeaderName::from_static("x-forwarded-proto"), Some(scheme)),
        (header::UPGRADE, upgrade),
        (header::CONNECTION, Some(connection)),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            parts.headers.insert(name, value);
        }
    }
    Ok(Request::from_parts(parts, body))
}

/// The answer as the client gets it.
fn to_client(
    mut answer: axum::http::Response<hyper::body::Incoming>,
    client: Option<OnUpgrade>,
    ending: CancellationToken,
) -> Result<Response> {
    let upgrade = headers::upgrade(answer.headers());
    headers::strip(answer.headers_mut());
    headers::keep_cookies_home(answer.headers_mut());
    *answer.version_mut() = Version::HTTP_11;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client), Some(upgrade)) = (client, upgrade) else {
            let text = "the program in the sandbox speaks something that nobody asked for";
            return Err(Error::new(ErrorCode::PortClosed, text));
        };
        let said = answer.headers_mut();
        said.insert(header::UPGRADE, upgrade);
        said.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        let program = on(&mut answer);
        tokio::spawn(ending.run_until_cancelled_owned(join(client, program)));
    }
    Ok(answer.map(Body::new))
}

/// Carries whatever they speak now, until both have said their last.
async fn join(client: OnUpgrade, program: OnUpgrade) {
    let both = tokio::try_join!(client, program);
    let Ok((client, program)) = both else {
        return;
    };
    let (mut client, mut program) = (TokioIo::new(client), TokioIo::new(program));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut program).await {
        tracing::debug!(%error, "an upgraded connection broke");
    }
}
