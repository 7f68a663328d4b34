//! Failures on their way out. The edge gives them their body, because only it knows the request's id.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use skerry_api::ErrorBody;
use skerry_types::{Error, ErrorCode};

/// A failure as a response, without a body until it has passed the edge.
#[derive(Debug, Clone)]
pub struct Failure(pub Error);

/// What a handler answers.
pub type Answer<T> = Result<T, Failure>;

impl Failure {
    /// A failure with this code and message.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Error::new(code, message))
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(self.0.code);
        response.extensions_mut().insert(self);
        response
    }
}

fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The envelope of `/v1`.
pub(crate) fn envelope(error: Error, request_id: &str) -> Response {
    let headers = (
        error.retry_after.map(HeaderValue::from),
        error.code == ErrorCode::Unauthorized,
    );
    let body = ErrorBody {
        error: error.code,
        code: error.code,
        message: error.message,
        hint: error.hint,
        request_id: request_id.to_owned(),
        retry_after: error.retry_after,
    };
    let mut response = (status(body.code), axum::Json(body)).into_response();
    if let Some(seconds) = headers.0 {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    if headers.1 {
        let scheme = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}
