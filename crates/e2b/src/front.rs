//! The first look at every request: `envd` or a port of a sandbox, the control plane of this protocol, or `/v1`.

use std::convert::Infallible;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use skerry_http::App;
use tower::ServiceExt;

use crate::api::Api;
use crate::place::{ENVD_PORT, Place};
use crate::{api, envd, port};

#[derive(Clone)]
struct Front {
    app: App,
    envd: Router,
    api: Router,
    v1: Router,
}

/// Everything that the server answers: this protocol, and behind it `/v1`.
pub fn front(app: App) -> Router {
    let v1 = skerry_http::router(app.clone());
    let front = Front {
        envd: envd::router(app.clone()),
        api: api::router(Api::new(app.clone())).fallback_service(v1.clone()),
        v1,
        app,
    };
    Router::new().fallback(answer).with_state(front)
}

async fn answer(State(front): State<Front>, mut request: Request) -> Response {
    // The name of a port leads nowhere else, whatever the rest of the request says.
    if front.app.names_port(&request) && Place::by_name(&request).is_none() {
        return told(front.v1.oneshot(request).await);
    }
    let place = match Place::of(front.app.control(), &request) {
        Some(place) => place,
        None if envd::is_ours(request.uri().path()) => Place::nowhere(),
        None => return told(front.api.oneshot(request).await),
    };
    match place.sandbox {
        Some(sandbox) if place.port != ENVD_PORT => {
            port::pass(&front.app, &place, sandbox, request).await
        }
        _ => {
            request.extensions_mut().insert(place);
            told(front.envd.oneshot(request).await)
        }
    }
}

fn told(answer: Result<Response, Infallible>) -> Response {
    answer.unwrap_or_else(|never| match never {})
}
