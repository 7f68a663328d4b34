//! Builds of templates: asked for, begun, followed.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_control::{Build, BuildPlan, BuildStatus, Caller, LogLine, Scope};
use skerry_http::{Answer, Json, Path, Query};
use skerry_types::{BuildId, Error, Result};
use uuid::Uuid;

use super::Api;
use super::id::{plain_name, plain_tag, shown_tag};
use super::recipe::Order;
use super::templates::build_id;

/// Lines of a log in one answer: clients ask until there is none.
const MAX_LINES: usize = 100;
/// Levels that are not shown: the last line of a log only says that it is the last.
const LAST: &str = "end";

/// A build to come.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NewBuild {
    name: Option<String>,
    alias: Option<String>,
    tags: Vec<String>,
    cpu_count: Option<u32>,
    #[serde(rename = "memoryMB")]
    memory_mb: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Requested {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "buildID")]
    build_id: String,
    public: bool,
    names: Vec<String>,
    tags: Vec<String>,
    aliases: Vec<String>,
}

/// Gives a build its id; how it is done comes next.
pub(super) async fn request(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<NewBuild>,
) -> Answer<(StatusCode, Json<Requested>)> {
    caller.require(Scope::SandboxCreate)?;
    let promise = api.control().promise_build(&caller, asked.read()?).await?;
    let name = promise.template.name;
    let body = Requested {
        template_id: promise.template.id.to_string(),
        build_id: promise.build.uuid().to_string(),
        public: promise.template.public,
        names: vec![name.clone()],
        tags: promise.tags.into_iter().map(shown_tag).collect(),
        aliases: vec![name],
    };
    Ok((StatusCode::ACCEPTED, Json(body)))
}

impl NewBuild {
    fn read(self) -> Result<BuildPlan> {
        let name = self.name.or(self.alias);
        let name = name.ok_or_else(|| Error::validation("name: must be given"))?;
        let mut name = plain_name(&name);
        let mut tags: Vec<_> = self.tags.into_iter().map(plain_tag).collect();
        if !name.contains(':') && !tags.is_empty() {
            name = format!("{name}:{}", tags.remove(0));
        }
        Ok(BuildPlan {
            name,
            tags,
            vcpus: self.cpu_count,
            memory_mb: self.memory_mb,
        })
    }
}

pub(super) async fn start(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((template, id)): Path<(String, Uuid)>,
    Json(asked): Json<Order>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxCreate)?;
    let (control, id) = (api.control(), BuildId::from_uuid(id));
    let promised = control.promised_build(&caller, &template, id).await?;
    control
        .start_build(&caller, asked.complete(promised)?)
        .await?;
    Ok(StatusCode::ACCEPTED)
}

/// From which line, and how many.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct From {
    logs_offset: u64,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "buildID")]
    build_id: String,
    status: &'static str,
    logs: Vec<String>,
    log_entries: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

#[derive(Debug, Serialize)]
struct Entry {
    timestamp: Timestamp,
    message: String,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
}

#[derive(Debug, Serialize)]
struct Reason {
    message: String,
    step: String,
}

pub(super) async fn status(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((template, id)): Path<(String, Uuid)>,
    Query(from): Query<From>,
) -> Answer<Json<Progress>> {
    caller.require(Scope::SandboxRead)?;
    let (control, id) = (api.control(), BuildId::from_uuid(id));
    // Before its lines, so that whoever sees its end then sees all of them.
    let build = control.build(&caller, &template, id).await?;
    let most = from.limit.unwrap_or(MAX_LINES).min(MAX_LINES);
    let lines = control.build_log(&caller, &template, id, from.logs_offset, false);
    let lines: Vec<LogLine> = lines.await?.take(most).try_collect().await?;
    let shown = lines.into_iter().filter(|line| line.level != LAST);
    Ok(Json(Progress {
        template_id: build.template_id.to_string(),
        build_id: build_id(&build),
        status: build.status.as_str(),
        logs: Vec::new(),
        log_entries: shown.map(entry).collect(),
        reason: reason(build),
    }))
}

fn entry(line: LogLine) -> Entry {
    Entry {
        timestamp: line.ts,
        message: line.message,
        level: if line.level == "error" {
            "error"
        } else {
            "info"
        },
        step: line.step,
    }
}

fn reason(build: Build) -> Option<Reason> {
    let message = build
        .reason
        .filter(|_| build.status == BuildStatus::Error)?;
    // What clients call what comes before the steps, and after them.
    let step = match (build.step_number, build.step) {
        (Some(number), _) => number.to_string(),
        (None, None) => "base".to_owned(),
        (None, Some(_)) => "finalize".to_owned(),
    };
    Some(Reason { message, step })
}
