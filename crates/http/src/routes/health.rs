//! Is the server well, and does it take work?

use axum::extract::State;
use axum::http::StatusCode;
use skerry_api::{Check, Health, Readiness};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::extract::Json;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
}

/// The process answers.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = Health)))]
async fn health() -> Json<Health> {
    Json(Health {
        status: "ok".into(),
    })
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    health().await
}

/// Whether new work is welcome, and what stands in the way.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness))
)]
async fn readyz(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let found = app.control.readiness().await;
    let draining = found.draining || app.draining.is_cancelled();
    let check = |name: &str, trouble: Option<String>| Check {
        name: name.into(),
        ok: trouble.is_none(),
        message: trouble,
    };
    let unless = |ok: bool, message: &str| (!ok).then(|| message.to_owned());
    let store = unless(found.store, "the store does not answer");
    let nodes = unless(found.node.is_some(), "no node answers");
    let node = found.node.unwrap_or_default();
    let checks = vec![
        check("store", store),
        check("nodes", nodes),
        check("storage", node.storage),
        check("records", node.records),
        check("accepting", unless(!draining, "the server is ending")),
    ];
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, checks }))
}
