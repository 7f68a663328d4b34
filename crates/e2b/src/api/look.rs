//! What a sandbox uses, and what happened in it.

use axum::extract::{Extension, State};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_control::{Caller, Need, Scope};
use skerry_http::{Answer, Json, Path, Query};
use skerry_proto::node::JournalEvent;

use super::Api;
use super::id::Named;
use crate::usage::share;

const MIB: u64 = 1024 * 1024;
/// Events that one answer has at most.
const MAX_EVENTS: usize = 1000;

/// In seconds since 1970.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Span {
    start: Option<i64>,
    end: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metric {
    timestamp: Timestamp,
    timestamp_unix: i64,
    cpu_count: u32,
    cpu_used_pct: f64,
    mem_used: u64,
    mem_total: u64,
    mem_cache: u64,
    disk_used: u64,
    disk_total: u64,
}

/// What it uses now, if that is within what is asked for; nothing earlier is kept. The processor's share is that of its whole life.
pub(super) async fn metrics(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    Query(span): Query<Span>,
) -> Answer<Json<Vec<Metric>>> {
    let found = api.find(&caller, Scope::SandboxRead, id).await?;
    let node = api.control().authorize(&caller, id, Need::Exists).await?;
    let stats = node.stats(id).await?;
    let now = Timestamp::now();
    let lived = found
        .started_at
        .map_or(0.0, |at| now.duration_since(at).as_secs_f64());
    let second = now.as_second();
    let is_asked =
        span.start.is_none_or(|start| start <= second) && span.end.is_none_or(|end| end >= second);
    let metric = Metric {
        timestamp: now,
        timestamp_unix: second,
        cpu_count: found.resources.vcpus,
        cpu_used_pct: share(stats.cpu_us, lived, found.resources.vcpus),
        mem_used: stats.memory_bytes,
        mem_total: u64::from(found.resources.memory_mb) * MIB,
        mem_cache: 0,
        disk_used: stats.disk_bytes,
        disk_total: u64::from(found.resources.disk_mb) * MIB,
    };
    Ok(Json(is_asked.then_some(metric).into_iter().collect()))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logs {
    logs: Vec<Line>,
    log_entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Line {
    timestamp: Timestamp,
    line: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Entry {
    timestamp: Timestamp,
    message: String,
    level: &'static str,
    fields: serde_json::Value,
}

impl From<JournalEvent> for Entry {
    fn from(event: JournalEvent) -> Self {
        Self {
            timestamp: event.ts,
            message: event.kind,
            level: "info",
            fields: serde_json::json!({ "data": event.data.to_string() }),
        }
    }
}

/// What happened in it, oldest first: its journal without what programs wrote.
pub(super) async fn logs(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
) -> Answer<Json<Logs>> {
    let log_entries = api.journal(&caller, id).await?;
    let logs = log_entries.iter().map(|entry| Line {
        timestamp: entry.timestamp,
        // The command line reads it as JSON once more.
        line: serde_json::json!({ "message": entry.message, "level": entry.level }).to_string(),
    });
    Ok(Json(Logs {
        logs: logs.collect(),
        log_entries,
    }))
}

#[derive(Debug, Serialize)]
pub(super) struct LogsV2 {
    logs: Vec<Entry>,
}

pub(super) async fn logs_v2(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
) -> Answer<Json<LogsV2>> {
    let logs = api.journal(&caller, id).await?;
    Ok(Json(LogsV2 { logs }))
}

impl Api {
    async fn journal(&self, caller: &Caller, id: skerry_types::SandboxId) -> Answer<Vec<Entry>> {
        caller.require(Scope::SandboxRead)?;
        let node = self.control().authorize(caller, id, Need::Journal).await?;
        let events = node.events(id, 0, false).await?;
        Ok(events
            .take(MAX_EVENTS)
            .map_ok(Entry::from)
            .try_collect()
            .await?)
    }
}
