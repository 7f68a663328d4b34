//! Sandboxes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{ErrorCode, FailureReason, NodeId, SandboxId, SandboxState};
use utoipa::ToSchema;

use crate::{Egress, Map, MountedVolume, VolumeMount};

/// Makes a sandbox. Every field may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CreateSandbox {
    /// What it starts from: an image, or the id or name of a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A named image with defaults, instead of `image`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        alias = "template_id",
        alias = "templateID"
    )]
    pub template: Option<String>,
    /// A named size: `small`, `medium` or `large`. Single values beside it go before its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Processors' worth of time, 1 to 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Space for what it writes, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mb: Option<u32>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// The environment of everything that runs in it.
    pub env: Map,
    /// It ends at this age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// It ends when nothing used it for this long; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// What happens to it then; `stop` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<OnTimeout>,
    /// What happens to it when nothing used it for too long, if that is something else than at its age limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_idle: Option<OnTimeout>,
    /// Paused, it wakes up when a command, a session or file work needs it. Without this they are refused until it is resumed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub auto_resume: bool,
    /// Paused, it stays until somebody resumes or deletes it, whatever its age limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_paused: bool,
    /// Free notes; lists can be filtered by them.
    pub metadata: Map,
    /// A name for people, which no other living sandbox of the organisation has; its host name where it can be one. `alias` means the same.
    #[serde(skip_serializing_if = "Option::is_none", alias = "alias")]
    pub name: Option<String>,
    /// The project it belongs to: a text of your own; lists can be filtered by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Where; the server's own region unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// `none` or `nat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Where it may connect; only with network `nat`. Without rules all that is public is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Whoever knows the address of a port of it needs no key. A page that listens there is then everybody's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub public_ports: bool,
    /// Its ports to publish on the host, 16 at most: each is reached there as long as it lives, by whoever reaches the address, without a key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Volumes that it has; none unless given, or those of the snapshot that it is made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// `restricted` or `root`; the image's own default unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privilege: Option<String>,
    /// The driver wanted; the node chooses unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The least isolation wanted: `none`, `namespace`, `application_kernel`, `vm` or `remote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// How long it may wait for a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_timeout_seconds: Option<u64>,
}

/// What happens to a sandbox at its age limit or when it was idle for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// It is stopped.
    Stop,
    /// It is paused.
    Pause,
    /// It is deleted.
    Delete,
}

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    /// Which.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub sandbox_id: SandboxId,
    /// Its name.
    pub name: Option<String>,
    /// The project it belongs to.
    pub project: Option<String>,
    /// Where.
    pub region: String,
    /// Where it is in its life.
    #[schema(schema_with = crate::schema::sandbox_state)]
    pub status: SandboxState,
    /// What it started from.
    pub image: String,
    /// The name of the template it was made from.
    pub template: Option<String>,
    /// Its named size, if it was made with one.
    pub profile: Option<String>,
    /// Processors' worth of time.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Space for what it writes, in MiB.
    pub disk_mb: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Names of its environment; values are not kept.
    pub env_names: Vec<String>,
    /// Free notes.
    pub metadata: Map,
    /// `none` or `nat`.
    pub network: String,
    /// Where it may connect; both lists empty: wherever its network leads.
    pub egress: Egress,
    /// The driver that was asked for.
    pub driver: Option<String>,
    /// The least isolation that was asked for.
    pub isolation: Option<String>,
    /// The privilege level that was asked for.
    pub privilege: Option<String>,
    /// How long it may wait for a place.
    pub queue_timeout_seconds: u64,
    /// Its age limit.
    pub ttl_seconds: u64,
    /// Its idle limit; 0: none.
    pub idle_seconds: u64,
    /// What happens to it at its age limit.
    pub on_timeout: OnTimeout,
    /// What happens to it at its idle limit.
    pub on_idle: OnTimeout,
    /// Paused, it wakes up when it is used.
    pub auto_resume: bool,
    /// Paused, its age limit does not count.
    pub keep_paused: bool,
    /// Its ports are reached without a key.
    pub public_ports: bool,
    /// Its ports that are reached at ports of the host.
    pub published: Vec<crate::PublishedPort>,
    /// Volumes that it has.
    #[serde(default)]
    pub volumes: Vec<MountedVolume>,
    /// What it really is, once it was made.
    pub facts: Option<Facts>,
    /// Its parent.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub forked_from: Option<SandboxId>,
    /// Forks between it and its root.
    pub fork_depth: u32,
    /// Its own forks.
    pub fork_count: u32,
    /// The node that has it.
    #[schema(schema_with = crate::schema::node_id)]
    pub node_id: Option<NodeId>,
    /// Its place in the queue, from 1, while it is queued.
    pub queue_position: Option<u32>,
    /// Why it failed, or why it was stopped without being asked.
    #[schema(schema_with = crate::schema::failure_reason)]
    pub failure_reason: Option<FailureReason>,
    /// The same for a person.
    pub failure_message: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it started to run, the last time that it was started.
    pub started_at: Option<Timestamp>,
    /// When its age limit ends it.
    pub expires_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When something last used it.
    pub last_active_at: Timestamp,
    /// How long making it took, in microseconds.
    pub boot_us: Option<u64>,
}

/// What a sandbox really is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Facts {
    /// `ns`, `gvisor`, `vm`, `docker`, `fly` or `sim`.
    pub driver: String,
    /// What stands between it and the host: `namespace`, `application_kernel`, `vm`, `remote` or `none`.
    pub isolation: String,
    /// What runs a virtual machine's instructions: the processor itself, `kvm`, or a translation, `tcg`. `null` where there is no such machine.
    pub accelerator: Option<String>,
    /// `restricted` or `root`.
    pub privilege: String,
    /// Where its writes go: `btrfs`, `reflink`, `copy` …
    pub storage: String,
    /// The disk limit binds.
    pub disk_quota: bool,
    /// The memory, CPU and process limits bind.
    pub limits: bool,
    /// Digest of the image.
    pub image_digest: String,
    /// How it was forked, if it was: `files` or `files+memory`.
    pub fork: Option<String>,
}

/// A page of sandboxes, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxPage {
    /// The sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// Where the next page starts; `null`: this was the last.
    pub next_cursor: Option<String>,
}

/// What stop answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoppedSandbox {
    /// Which.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub sandbox_id: SandboxId,
    /// `stopping`, or the state it had ended in before.
    #[schema(schema_with = crate::schema::sandbox_state)]
    pub status: SandboxState,
}

/// What delete answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedSandbox {
    /// Which.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub sandbox_id: SandboxId,
    /// `deleted`.
    #[schema(schema_with = crate::schema::sandbox_state)]
    pub status: SandboxState,
}

/// Forks a running sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForkSandbox {
    /// Goes over the parent's environment.
    pub env: Map,
    /// The child's age limit; the parent's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// The child's name, as for a new sandbox. `alias` means the same.
    #[serde(skip_serializing_if = "Option::is_none", alias = "alias")]
    pub name: Option<String>,
    /// Goes over the parent's notes.
    pub metadata: Map,
    /// Whether the child goes on with the parent's memory and processes; `facts.fork` of the child says what was done.
    pub memory: crate::MemoryWish,
}

/// Makes several forks of one instant of a running sandbox: there is a place for all of them, or none is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkMany {
    /// How many: 1 to 100.
    pub count: u32,
    /// Goes over the parent's environment.
    #[serde(default)]
    pub env: Map,
    /// The children's age limit; the parent's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// The children's names, with `-1`, `-2` … behind. `alias` means the same.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "alias")]
    pub name: Option<String>,
    /// Goes over the parent's notes.
    #[serde(default)]
    pub metadata: Map,
    /// Whether the children go on with the parent's memory and processes; `kind` of the answer says what was done.
    #[serde(default)]
    pub memory: crate::MemoryWish,
}

/// Forks of one instant, each with how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkList {
    /// What they have of their parent: `files` or `files+memory`.
    pub kind: String,
    /// For how long the parent stood still, in microseconds; `null`: the server was restarted meanwhile, and nobody knows.
    pub held_us: Option<u64>,
    /// The children, as many as were asked for. At least one runs, or the request has failed.
    pub forks: Vec<ForkOutcome>,
}

/// How one of several forks went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkOutcome {
    /// Which.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub sandbox_id: SandboxId,
    /// It, if it was made.
    pub sandbox: Option<Sandbox>,
    /// Why it was not.
    pub error: Option<ForkError>,
}

/// Why a fork was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkError {
    /// The stable code.
    #[schema(schema_with = crate::schema::error_code)]
    pub code: ErrorCode,
    /// What happened, for a person.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A family of forks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkTree {
    /// The one that was not forked.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub root: SandboxId,
    /// Every member, the deleted ones too, parents before children.
    pub tree: Vec<ForkMember>,
}

/// A member of a family of forks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkMember {
    /// Which.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub sandbox_id: SandboxId,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it is in its life.
    #[schema(schema_with = crate::schema::sandbox_state)]
    pub status: SandboxState,
    /// Its parent.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub forked_from: Option<SandboxId>,
    /// When it was forked; `null` for the root.
    pub forked_at: Option<Timestamp>,
    /// Its own forks.
    #[schema(value_type = Vec<String>)]
    pub children: Vec<SandboxId>,
}

/// Gives a sandbox new times, counted from now. What is left out stays; at least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetTimeout {
    /// It ends this many seconds from now; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// An end that comes later already stays.
    pub only_longer: bool,
    /// It ends when nothing used it for this long; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u64>,
    /// What happens to it at either limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<OnTimeout>,
    /// What happens to it when nothing used it for too long, if that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_idle: Option<OnTimeout>,
    /// Whether it wakes up when it is used while it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_resume: Option<bool>,
}

/// What a sandbox uses now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Metrics {
    /// When it was measured.
    pub ts: Timestamp,
    /// Processor time since its start, in microseconds.
    pub cpu_us: u64,
    /// Memory now.
    pub memory_bytes: u64,
    /// The most it used.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// What it wrote and still has.
    pub disk_bytes: u64,
    /// Times the kernel killed one of its processes for lack of memory.
    pub oom_kills: u64,
}
