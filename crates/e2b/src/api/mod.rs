//! The control plane: sandboxes, snapshots and templates, on the paths of all generations of clients.

use axum::Router;
use skerry_http::App;

/// The routes; what they do not know is left to whoever comes after.
pub(crate) fn router(app: App) -> Router {
    Router::new().with_state(app)
}
