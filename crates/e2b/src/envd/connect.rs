//! The Connect protocol with JSON: one message in and one out, or a stream of them one way.

use std::fmt;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::json;
use skerry_http::App;
use skerry_proto::node::ByteStream;
use skerry_types::{Error, ErrorCode};

use crate::frame::{self, FrameError};

/// Why a call failed, in Connect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Internal,
    Unavailable,
    Unauthenticated,
}

impl Code {
    const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => StatusCode::BAD_REQUEST,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    pub(crate) fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn precondition(message: impl fmt::Display) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match error.code {
            ErrorCode::BadRequest | ErrorCode::ValidationError => Code::InvalidArgument,
            ErrorCode::NotFound | ErrorCode::Gone => Code::NotFound,
            ErrorCode::Forbidden => Code::PermissionDenied,
            ErrorCode::Unauthorized => Code::Unauthenticated,
            ErrorCode::Conflict => Code::FailedPrecondition,
            ErrorCode::RateLimited | ErrorCode::DiskFull | ErrorCode::TooLarge => {
                Code::ResourceExhausted
            }
            ErrorCode::SandboxNotRunning
            | ErrorCode::NodeUnreachable
            | ErrorCode::ServiceUnavailable => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(code, error.message)
    }
}

impl From<FrameError> for Refusal {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLarge(_) => Code::ResourceExhausted,
            FrameError::Flags(_) => Code::InvalidArgument,
        };
        Self::new(code, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.code.status(), Json(self)).into_response()
    }
}

/// A message of which nothing is of interest.
pub(crate) type Anything = serde::de::IgnoredAny;

/// What a unary method answers.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

/// A message without fields.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Empty {}

/// The message of a unary call.
#[derive(Debug)]
pub(crate) struct Unary<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Unary<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        must_be(request.headers(), "application/json").map_err(NotOf::into_response)?;
        let whole = whole(request, app).await;
        let message = whole.and_then(|whole| parse(&whole));
        message.map(Self).map_err(IntoResponse::into_response)
    }
}

/// The one message of a call that is answered by a stream. What is wrong with it is told in that stream.
#[derive(Debug)]
pub(crate) struct Opening<T>(pub(crate) Result<T, Refusal>);

impl<T: DeserializeOwned> FromRequest<App> for Opening<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        must_be(request.headers(), STREAM).map_err(NotOf::into_response)?;
        Ok(Self(only(request, app).await))
    }
}

/// The message of a body that has one. What cannot be one is refused as soon as it is seen.
async fn only<T: DeserializeOwned>(request: Request, app: &App) -> Result<T, Refusal> {
    let mut chunks = chunks(request, app)?;
    let mut buffer = BytesMut::new();
    let message = loop {
        if let Some(message) = frame::decode(&mut buffer)? {
            break message;
        }
        match chunks.next().await {
            Some(chunk) => buffer.extend_from_slice(&chunk?),
            None => return Err(Refusal::invalid("the request is not a whole message")),
        }
    };
    while let Some(chunk) = chunks.next().await {
        buffer.extend_from_slice(&chunk?);
    }
    if !buffer.is_empty() {
        return Err(Refusal::invalid("the request has more than one message"));
    }
    parse(&message)
}

/// All of a body that comes at once.
async fn whole(request: Request, app: &App) -> Result<BytesMut, Refusal> {
    let mut chunks = chunks(request, app)?;
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        whole.extend_from_slice(&chunk?);
    }
    Ok(whole)
}

fn chunks(request: Request, app: &App) -> Result<ByteStream, Refusal> {
    let (parts, body) = request.into_parts();
    let most = (frame::HEAD + frame::MOST_BYTES) as u64;
    Ok(skerry_http::upload(app, &parts.headers, body, most)?)
}

/// Messages that a client streams for as long as it likes.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: BodyDataStream,
    buffer: BytesMut,
}

impl<S: Sync> FromRequest<S> for Incoming {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        must_be(request.headers(), STREAM).map_err(NotOf::into_response)?;
        Ok(Self {
            body: request.into_body().into_data_stream(),
            buffer: BytesMut::new(),
        })
    }
}

impl Incoming {
    /// The next message; `None` after the last.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Refusal> {
        loop {
            if let Some(message) = frame::decode(&mut self.buffer)? {
                return parse(&message).map(Some);
            }
            match self.body.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(None),
                None | Some(Err(_)) => return Err(Refusal::invalid("the request broke off")),
            }
        }
    }
}

const STREAM: &str = "application/connect+json";

/// The body is of another type than this one.
struct NotOf(&'static str);

impl IntoResponse for NotOf {
    fn into_response(self) -> Response {
        (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            [("accept-post", self.0)],
        )
            .into_response()
    }
}

fn must_be(headers: &HeaderMap, wanted: &'static str) -> Result<(), NotOf> {
    let kind = crate::place::text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(NotOf(wanted))
    }
}

fn parse<T: DeserializeOwned>(message: &[u8]) -> Result<T, Refusal> {
    let found = serde_json::from_slice(message);
    found.map_err(|error| Refusal::invalid(format!("the message cannot be read: {error}")))
}

/// An answer that is a stream, once its bytes are there.
pub(crate) fn streamed(body: Body) -> Response {
    let fixed = [
        (header::CONTENT_TYPE.as_str(), STREAM),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // Proxies that collect a body before passing it on would turn "live" into "later".
        ("x-accel-buffering", "no"),
    ];
    (fixed, body).into_response()
}

/// An answer that is one message, or an end that tells of a failure.
pub(crate) fn streamed_once(answer: Result<Empty, Refusal>) -> Response {
    let mut out = BytesMut::new();
    match answer {
        Ok(answer) => {
            frame::message(&mut out, |out| put(out, &answer));
            end(&mut out, None);
        }
        Err(refusal) => end(&mut out, Some(&refusal)),
    }
    streamed(Body::from(out.freeze()))
}

/// The end of a streamed answer.
pub(crate) fn end(out: &mut BytesMut, refusal: Option<&Refusal>) {
    frame::end(out, |out| match refusal {
        Some(refusal) => put(out, &json!({ "error": refusal })),
        None => out.put_slice(b"{}"),
    });
}

/// Appends JSON text.
pub(crate) fn put(out: &mut BytesMut, value: &impl Serialize) {
    // A growing buffer takes everything, and nothing of ours has keys that are no text.
    if let Err(error) = serde_json::to_writer(out.writer(), value) {
        tracing::error!(%error, "a message could not be written");
    }
}
