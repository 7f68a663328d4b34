//! The sandbox as a whole: that it is well, what it uses, and what its commands start with.

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use skerry_http::{Answer, App, Json};
use skerry_proto::node::Map;

use super::inside::Inside;
use crate::usage::share;

const MIB: u64 = 1024 * 1024;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/health", get(async || StatusCode::NO_CONTENT))
        .route("/envs", get(envs))
        .route("/metrics", get(metrics))
}

/// The environment of commands.
async fn envs(Extension(inside): Extension<Inside>) -> Answer<Json<Map>> {
    let defaults = inside.node.defaults(inside.sandbox).await?;
    Ok(Json(defaults.env))
}

/// What a sandbox uses now.
#[derive(Debug, Clone, Serialize)]
struct Metrics {
    /// Seconds since 1970.
    ts: i64,
    cpu_count: u32,
    /// Of all of them.
    cpu_used_pct: f64,
    mem_total: u64,
    mem_used: u64,
    mem_cache: u64,
    mem_total_mib: u64,
    mem_used_mib: u64,
    disk_used: u64,
    disk_total: u64,
}

/// The processor's share is that of its whole life.
async fn metrics(
    State(app): State<App>,
    Extension(inside): Extension<Inside>,
) -> Answer<Json<Metrics>> {
    let found = app.control().get(&inside.caller, inside.sandbox).await?;
    let stats = inside.node.stats(inside.sandbox).await?;
    let now = Timestamp::now();
    let lived = found
        .started_at
        .map_or(0.0, |at| now.duration_since(at).as_secs_f64());
    let mem_total = u64::from(found.resources.memory_mb) * MIB;
    Ok(Json(Metrics {
        ts: now.as_second(),
        cpu_count: found.resources.vcpus,
        cpu_used_pct: share(stats.cpu_us, lived, found.resources.vcpus),
        mem_total,
        mem_used: stats.memory_bytes,
        mem_cache: 0,
        mem_total_mib: mem_total / MIB,
        mem_used_mib: stats.memory_bytes / MIB,
        disk_used: stats.disk_bytes,
        disk_total: u64::from(found.resources.disk_mb) * MIB,
    }))
}
