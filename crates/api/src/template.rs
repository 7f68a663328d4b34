//! Templates and their builds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_recipe::Recipe;
use skerry_types::{BuildId, SnapshotId, TemplateId};
use utoipa::ToSchema;

use crate::RegistryLogin;

/// Builds a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartBuild {
    /// How. Files that it copies were uploaded before.
    pub recipe: Recipe,
    /// More tags that it is found under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Get what it starts from out of its registry, if it is not here.
    #[serde(default)]
    pub fetch: bool,
    /// Who asks the registry; nobody in particular unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<RegistryLogin>,
    /// Do every step, whatever was kept of earlier builds.
    #[serde(default)]
    pub no_cache: bool,
    /// The size of the sandbox that it is built in, which is the template's: `small`, `medium` or `large`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Processors' worth of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Space for what it writes, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u32>,
    /// `none` or `nat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `restricted` or `root`; the image's own default unless given. What is made from the template has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privilege: Option<String>,
    /// The driver wanted; the node chooses unless given. What is made from the template has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Where a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// For its turn.
    Waiting,
    /// Its steps are done.
    Building,
    /// Its tags stand for it.
    Ready,
    /// It failed, was cancelled or interrupted.
    Error,
}

/// One attempt to make a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Build {
    /// Which.
    #[schema(schema_with = crate::schema::build_id)]
    pub build_id: BuildId,
    /// Of which template.
    #[schema(schema_with = crate::schema::template_id)]
    pub template_id: TemplateId,
    /// What it is found under once it is ready, behind the template's name.
    pub tags: Vec<String>,
    /// Where it is.
    pub status: BuildStatus,
    /// The step that it is at, or failed at.
    pub step: Option<String>,
    /// Which of the recipe's steps that is, from 1; none while it prepares what it starts from, and what it is started with.
    pub step_number: Option<u32>,
    /// Why it failed: the step with its line, what became of it, and the last lines that it wrote.
    pub reason: Option<String>,
    /// What sandboxes are made from.
    #[schema(schema_with = crate::schema::snapshot_id)]
    pub snapshot_id: Option<SnapshotId>,
    /// What it gives to them, once it is ready.
    pub defaults: Option<TemplateDefaults>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its turn came.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What a template gives to what is made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateDefaults {
    /// Where commands start.
    pub workdir: String,
    /// As whom they run.
    pub user: String,
    /// Names of its variables; values are not kept.
    pub env_names: Vec<String>,
    /// What always runs, if anything does. A note: nothing starts by itself but what the recipe's `start` started.
    pub entrypoint: Vec<String>,
    /// Default arguments, or the default command. A note, too.
    pub cmd: Vec<String>,
    /// Ports that its programs listen on.
    pub ports: Vec<u16>,
}

/// The latest builds of a template, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildList {
    /// The builds.
    pub builds: Vec<Build>,
}

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildLogLine {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When.
    pub ts: Timestamp,
    /// `info`, `output` for what a command wrote, `error`, or `end` for the last line.
    pub level: String,
    /// The step that it belongs to.
    pub step: Option<String>,
    /// The line.
    pub message: String,
}

/// A named image with defaults. A sandbox is made from it by creating one with `name` or `name:tag` as `image` or `template`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// Which.
    #[schema(schema_with = crate::schema::template_id)]
    pub template_id: TemplateId,
    /// Its name.
    pub name: String,
    /// Other organisations may use it; none may yet.
    pub public: bool,
    /// What can be used of it. Without a tag, `latest` is meant.
    pub tags: Vec<TemplateTag>,
    /// When it was first built.
    pub created_at: Timestamp,
}

/// A name for a finished build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateTag {
    /// The name, behind the template's.
    pub tag: String,
    /// What it stands for.
    #[schema(schema_with = crate::schema::build_id)]
    pub build_id: BuildId,
    /// Since when.
    pub created_at: Timestamp,
}

/// A page of templates, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplatePage {
    /// The templates.
    pub templates: Vec<Template>,
    /// Where the next page starts; `null`: this was the last.
    pub next_cursor: Option<String>,
}

/// Whether an archive for builds is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// It is, and need not be sent.
    pub present: bool,
}
