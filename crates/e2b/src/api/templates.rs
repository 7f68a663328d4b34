//! Templates: listed, looked up, removed; snapshots are templates too, and so are images.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_control::{Build, BuildStatus, Caller, Scope, TemplateView};
use skerry_http::{Answer, Json, Path};
use skerry_types::{Error, ErrorCode, limits};

use super::Api;
use super::create::is_missing;
use super::id::plain_name;
use super::shape::ENVD_VERSION;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "buildID")]
    build_id: String,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u32,
    #[serde(rename = "diskSizeMB")]
    disk_size_mb: u32,
    public: bool,
    aliases: Vec<String>,
    names: Vec<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    created_by: Option<()>,
    last_spawned_at: Option<Timestamp>,
    spawn_count: u64,
    build_count: usize,
    envd_version: &'static str,
    build_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    builds: Option<Vec<Attempt>>,
}

/// One build in the list of a template's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    #[serde(rename = "buildID")]
    build_id: String,
    status: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u32,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<Vec<Shown>>> {
    caller.require(Scope::SandboxRead)?;
    let most = Some(limits::MAX_PAGE);
    let page = api.control().templates(&caller, None, most).await?;
    let mut shown = Vec::with_capacity(page.templates.len());
    for view in page.templates {
        shown.push(api.template(&caller, view, false).await?);
    }
    Ok(Json(shown))
}

pub(super) async fn detail(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<Json<Shown>> {
    caller.require(Scope::SandboxRead)?;
    let name = plain_name(&reference);
    let view = api.control().template(&caller, &name).await?;
    Ok(Json(api.template(&caller, view, true).await?))
}

/// Removes a template or, as clients do with the same call, a snapshot.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    let (control, name) = (api.control(), plain_name(&reference));
    match control.remove_snapshot(&caller, &name).await {
        Err(error) if error.code == ErrorCode::NotFound => {
            control.delete_template(&caller, &name).await?;
        }
        removed => removed?,
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    public: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(super) struct Names {
    names: Vec<String>,
}

/// There is one thing to change, and it cannot be changed: templates are their org's own.
pub(super) async fn update(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    Json(asked): Json<Update>,
) -> Answer<Json<Names>> {
    caller.require(Scope::SandboxWrite)?;
    let view = api
        .control()
        .template(&caller, &plain_name(&reference))
        .await?;
    if asked.public == Some(true) {
        return Err(Error::unsupported("public: templates are for their organisation only").into());
    }
    Ok(Json(Names {
        names: vec![view.template.name],
    }))
}

#[derive(Debug, Serialize)]
pub(super) struct Alias {
    #[serde(rename = "templateID")]
    template_id: String,
    public: bool,
}

/// Whether there is something of that name to make sandboxes from.
pub(super) async fn alias(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(alias): Path<String>,
) -> Answer<Json<Alias>> {
    caller.require(Scope::SandboxRead)?;
    let (control, name) = (api.control(), plain_name(&alias));
    let mut found = control
        .template(&caller, &name)
        .await
        .map(|view| view.template.id.to_string());
    if found.as_ref().is_err_and(is_missing) {
        found = control
            .snapshot(&caller, &name)
            .await
            .map(|snapshot| snapshot.id.to_string());
    }
    let is_image =
        found.as_ref().is_err_and(is_missing) && control.has_image(&caller, &name).await?;
    Ok(Json(Alias {
        template_id: if is_image { name } else { found? },
        // Images are everybody's; the rest is its organisation's.
        public: is_image,
    }))
}

impl Api {
    async fn template(
        &self,
        caller: &Caller,
        view: TemplateView,
        with_builds: bool,
    ) -> Answer<Shown> {
        let template = view.template;
        let builds = self.control().builds(caller, &template.name).await?;
        let last = builds
            .iter()
            .find(|build| build.status == BuildStatus::Ready);
        let snapshot = match last.and_then(|build| build.snapshot_id) {
            Some(id) => Some(self.control().snapshot(caller, &id.to_string()).await?),
            None => None,
        };
        let size = snapshot.map(|snapshot| snapshot.resources);
        let size = size.unwrap_or(skerry_types::Profile::Small.resources());
        let newest = builds.first();
        Ok(Shown {
            template_id: template.id.to_string(),
            build_id: last.or(newest).map(build_id).unwrap_or_default(),
            cpu_count: size.vcpus,
            memory_mb: size.memory_mb,
            disk_size_mb: size.disk_mb,
            public: template.public,
            aliases: vec![template.name.clone()],
            names: vec![template.name],
            created_at: template.created_at,
            updated_at: newest.map_or(template.created_at, changed_at),
            created_by: None,
            last_spawned_at: None,
            spawn_count: 0,
            build_count: builds.len(),
            envd_version: ENVD_VERSION,
            build_status: newest.map_or("waiting", |build| build.status.as_str()),
            builds: with_builds.then(|| builds.iter().map(|build| attempt(build, size)).collect()),
        })
    }
}

fn attempt(build: &Build, size: skerry_types::Resources) -> Attempt {
    Attempt {
        build_id: build_id(build),
        status: build.status.as_str(),
        created_at: build.created_at,
        updated_at: changed_at(build),
        finished_at: build.ended_at,
        cpu_count: size.vcpus,
        memory_mb: size.memory_mb,
    }
}

fn changed_at(build: &Build) -> Timestamp {
    let at = build.ended_at.or(build.started_at);
    at.unwrap_or(build.created_at)
}

/// Clients read the id of a build as a UUID.
pub(super) fn build_id(build: &Build) -> String {
    build.id.uuid().to_string()
}
