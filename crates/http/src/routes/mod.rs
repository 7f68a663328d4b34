//! The routes, and the document that is made from them.

mod events;
mod exec_io;
mod execs;
mod files;
mod health;
mod images;
mod lifecycle;
mod ports;
mod pty;
mod sandboxes;
mod sessions;
mod snapshots;
mod templates;
mod transfer;
mod volume_files;
mod volumes;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, header};
use skerry_types::{Error, ErrorCode};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::edge::{Entry, Protocol, edge};
use crate::error::{Failure, envelope};
use crate::{App, Settings, docs};

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(docs::head())
        .merge(sandboxes::routes())
        .merge(lifecycle::routes())
        .merge(snapshots::routes())
        .merge(templates::routes())
        .merge(volumes::routes())
        .merge(volume_files::routes())
        .merge(execs::routes())
        .merge(exec_io::routes())
        .merge(sessions::routes())
        .merge(pty::routes())
        .merge(files::routes())
        .merge(transfer::routes())
        .merge(events::routes())
        .merge(ports::routes())
        .merge(images::routes())
        .merge(health::routes())
}

/// The OpenAPI document; `openapi/v1.json` is this.
pub fn openapi() -> OpenApi {
    docs::finish(routes().into_openapi())
}

/// Everything that the server answers.
pub fn router(app: App) -> Router {
    let cors = cors(&app.settings);
    let front = axum::middleware::from_fn_with_state(app.clone(), crate::ports::front);
    let protocol = Protocol {
        app: app.clone(),
        entry: Entry::Key,
        envelope,
    };
    let (router, document) = routes().split_for_parts();
    let router = router
        .merge(docs::pages(docs::finish(document)))
        .fallback(async || Failure::new(ErrorCode::NotFound, "there is no such route"))
        .method_not_allowed_fallback(async || {
            let message = "the route is there, but not with this method";
            Failure(Error::new(ErrorCode::MethodNotAllowed, message))
        })
        // Every route bounds its own body, most of them much lower.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(protocol, edge))
        .with_state(app);
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    // Before all else: no route of ours is below the name of a port.
    router.layer(front)
}

/// Only for the origins that an operator named, if there are any.
fn cors(settings: &Settings) -> Option<CorsLayer> {
    let origins: Vec<_> = settings
        .origins
        .iter()
        .filter_map(|origin| origin.parse().ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::HeaderName::from_static("idempotency-key"),
            header::HeaderName::from_static("last-event-id"),
            header::HeaderName::from_static("x-api-key"),
        ])
        .expose_headers([header::HeaderName::from_static("x-request-id")]);
    Some(layer)
}
