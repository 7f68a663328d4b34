//! The control plane: sandboxes, snapshots and templates, on the paths of all generations of clients.

mod create;
mod id;
mod lifecycle;
mod list;
mod network;
mod shape;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use skerry_control::Control;
use skerry_http::{App, Entry, Failure, Protocol};
use skerry_types::{Error, ErrorCode};

use crate::error;

/// What every route reaches.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    app: App,
    /// Below which clients find ports of sandboxes; `None`: they know better.
    domain: Option<Arc<str>>,
}

impl Api {
    pub(crate) fn new(app: App, domain: Option<String>) -> Self {
        let domain = domain.map(Arc::from);
        Self { app, domain }
    }

    fn control(&self) -> &Control {
        self.app.control()
    }
}

impl FromRef<Api> for App {
    fn from_ref(api: &Api) -> Self {
        api.app.clone()
    }
}

/// The routes; what they do not know is left to whoever comes after.
pub(crate) fn router(api: Api) -> Router {
    let protocol = Protocol {
        app: api.app.clone(),
        entry: Entry::KeyFromAnywhere,
        envelope: error::envelope,
    };
    Router::new()
        .route("/v2/sandboxes", get(list::list).post(create::create_v2))
        .route(
            "/sandboxes",
            get(list::list_running).post(create::create_v1),
        )
        .route(
            "/sandboxes/{id}",
            get(list::detail).delete(lifecycle::delete),
        )
        .route("/sandboxes/{id}/timeout", post(lifecycle::timeout))
        .route("/sandboxes/{id}/refreshes", post(lifecycle::refresh))
        .route("/v2/sandboxes/{id}/connect", post(lifecycle::connect_v2))
        .route("/sandboxes/{id}/connect", post(lifecycle::connect_v1))
        .route("/sandboxes/{id}/resume", post(lifecycle::resume))
        .route("/sandboxes/{id}/pause", post(lifecycle::pause))
        .method_not_allowed_fallback(async || {
            let message = "the route is there, but not with this method";
            Failure(Error::new(ErrorCode::MethodNotAllowed, message))
        })
        .layer(from_fn_with_state(protocol, skerry_http::edge))
        .with_state(api)
}
