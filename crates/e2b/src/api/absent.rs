//! What this server has not, said in a way that clients show.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::error::Failure;

/// For every operation of the protocol that there is no counterpart of.
pub(super) async fn absent() -> Response {
    let message = "this server has no secrets or workload identities";
    Failure::new(StatusCode::NOT_IMPLEMENTED, message).into_response()
}
