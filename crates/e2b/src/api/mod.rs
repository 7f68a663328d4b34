//! The control plane: sandboxes, snapshots and templates, on the paths of all generations of clients.

mod absent;
mod builds;
mod create;
mod fork;
mod id;
mod lifecycle;
mod list;
mod look;
mod network;
mod recipe;
mod shape;
mod snapshots;
mod tags;
mod team;
mod templates;
mod uploads;
mod volume_content;
mod volumes;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, patch, post, put};
use skerry_control::Control;
use skerry_http::{App, Entry, Failure, Protocol};
use skerry_types::{Error, ErrorCode};

use crate::cors::cors;
use crate::error;

/// What every route reaches.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    app: App,
}

impl Api {
    pub(crate) fn new(app: App) -> Self {
        Self { app }
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
    let guarded = |routes: Router<Api>, entry, envelope| {
        let protocol = Protocol {
            app: api.app.clone(),
            entry,
            envelope,
        };
        let routes = routes.method_not_allowed_fallback(async || {
            let message = "the route is there, but not with this method";
            Failure(Error::new(ErrorCode::MethodNotAllowed, message))
        });
        routes.layer(from_fn_with_state(protocol, skerry_http::edge))
    };
    let keyed = sandboxes().merge(templates()).merge(others());
    let open = Router::new().route("/uploads/{ticket}", put(uploads::put));
    let content = volume_content::routes();
    guarded(keyed, Entry::KeyFromAnywhere, error::envelope)
        .merge(guarded(open, Entry::Open, error::envelope))
        .merge(guarded(content, Entry::Open, volume_content::envelope))
        .layer(DefaultBodyLimit::disable())
        .layer(cors([list::NEXT_TOKEN]))
        .with_state(api)
}

fn sandboxes() -> Router<Api> {
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
        .route("/sandboxes/{id}/fork", post(fork::fork))
        .route("/sandboxes/{id}/snapshots", post(snapshots::take))
        .route("/sandboxes/{id}/network", put(network::update))
        .route("/sandboxes/{id}/metrics", get(look::metrics))
        .route("/sandboxes/{id}/logs", get(look::logs))
        .route("/v2/sandboxes/{id}/logs", get(look::logs_v2))
        .route("/snapshots", get(snapshots::list))
}

fn templates() -> Router<Api> {
    Router::new()
        .route("/v3/templates", post(builds::request))
        .route("/v2/templates", post(builds::request))
        .route("/templates", get(templates::list))
        .route(
            "/templates/{id}",
            get(templates::detail)
                .patch(templates::update)
                .delete(templates::remove),
        )
        .route("/v2/templates/{id}", patch(templates::update))
        .route("/templates/aliases/{alias}", get(templates::alias))
        .route("/templates/tags", post(tags::assign).delete(tags::remove))
        .route("/templates/{id}/tags", get(tags::list))
        .route("/templates/{id}/files/{hash}", get(uploads::link))
        .route("/v2/templates/{id}/builds/{build}", post(builds::start))
        .route("/templates/{id}/builds/{build}/status", get(builds::status))
}

fn others() -> Router<Api> {
    let mut routes = Router::new().route("/teams", get(team::teams));
    routes = routes
        .route("/volumes", get(volumes::list).post(volumes::create))
        .route("/volumes/{id}", get(volumes::get).delete(volumes::remove));
    for path in ["/secrets", "/secrets/{id}"] {
        routes = routes.route(path, any(absent::absent));
    }
    routes
}
