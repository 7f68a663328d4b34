//! Addresses of what listens in a sandbox.

use axum::extract::{Extension, State};
use jiff::{SignedDuration, Timestamp};
use skerry_api::{PortAddress, PortQuery};
use skerry_control::{Caller, Need, Scope};
use skerry_types::SandboxId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::ports::{Link, PARAMETER, Target, Way, bad_port};
use crate::{App, check};

const DEFAULT_SECONDS: u64 = 3600;
/// A week: a link is not a key.
const MAX_SECONDS: u64 = 7 * 24 * 3600;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get_port))
}

/// Say where a port of a sandbox is reached from outside, whether or not something listens there yet.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/ports/{port}", tag = "ports",
    params(("id" = String, Path), ("port" = u16, Path, minimum = 1), PortQuery),
    responses((status = 200, body = PortAddress))
)]
async fn get_port(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((sandbox, port)): Path<(SandboxId, String)>,
    Query(query): Query<PortQuery>,
    way: Way,
) -> Answer<Json<PortAddress>> {
    app.node(&caller, Scope::PortUse, sandbox, Need::Exists)
        .await?;
    let port = port.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(bad_port)?;
    let seconds = query.ttl_seconds.unwrap_or(DEFAULT_SECONDS);
    let seconds = check::seconds("ttl_seconds", seconds, MAX_SECONDS)?;
    let target = Target { sandbox, port };
    let until = Timestamp::now() + SignedDuration::from_secs(seconds as i64);
    let link = Link { target, until };
    let url = way.to(target)?;
    Ok(Json(PortAddress {
        port,
        signed_url: format!("{url}?{PARAMETER}={}", link.token(&app.control)),
        url,
        expires_at: until,
    }))
}
