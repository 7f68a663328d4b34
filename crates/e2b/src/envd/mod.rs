//! `envd`: what these clients believe to be a server inside the sandbox, at port 49983. The sandbox's id is an extension of each request.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use skerry_http::App;

/// The routes.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/health", get(async || StatusCode::NO_CONTENT))
        .with_state(app)
}
