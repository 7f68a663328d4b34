//! Failures as these clients parse them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use skerry_types::Error;

use crate::place::Place;

/// A failure of the control plane or of a route of `envd` that is not Connect: `{code, message}`, where the code is the HTTP status.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let status = StatusCode::from_u16(error.code.status());
        let message = match &error.hint {
            Some(hint) => format!("{}: {hint}", error.message),
            None => error.message,
        };
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.status.as_u16(), "message": self.message });
        (self.status, Json(body)).into_response()
    }
}

/// What the edge makes of a failure of the control plane.
pub(crate) fn envelope(error: Error, _request_id: &str) -> Response {
    let retry_after = error.retry_after.map(HeaderValue::from);
    let mut response = Failure::from(error).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// There is no such sandbox, or it does not run. Clients look for these very words.
pub(crate) fn no_sandbox(place: &Place) -> Response {
    let body =
        json!({ "sandboxId": place.name, "message": "The sandbox was not found", "code": 502 });
    (StatusCode::BAD_GATEWAY, Json(body)).into_response()
}

/// Nothing listens there. Clients look for these very words.
pub(crate) fn closed_port(place: &Place) -> Response {
    let message = "The sandbox is running but port is not open";
    let body =
        json!({ "sandboxId": place.name, "message": message, "port": place.port, "code": 502 });
    (StatusCode::BAD_GATEWAY, Json(body)).into_response()
}
