//! node.v1: what control, and the HTTP edge, ask of a node.
//!
//! In all-in-one the node is called through these traits directly; over a network an RPC client implements them. Every request names its sandbox;
//! which tenant may name it was decided before.

mod execs;
mod files;
mod sessions;
mod volumes;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{
    Egress, FailureReason, PublishedPort, Resources, Result, SandboxId, SandboxState, SnapshotId,
};

pub use execs::*;
pub use files::*;
pub use sessions::*;
pub use volumes::*;

/// A node: sandboxes, what runs in them, their files, their records.
pub trait Node:
    Sandboxes + Snapshots + Execs + Sessions + Files + Volumes + Ports + Events + Health
{
}
impl<T: Sandboxes + Snapshots + Execs + Sessions + Files + Volumes + Ports + Events + Health> Node
    for T
{
}

/// A stream of bytes that may break.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Names and values.
pub type Map = BTreeMap<String, String>;

/// A sandbox to make on a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateSandbox {
    /// Its id.
    pub id: SandboxId,
    /// What it starts from, as the caller wrote it.
    pub image: String,
    /// What it may use at most.
    pub resources: Resources,
    /// The environment of everything that runs in it.
    pub env: Map,
    /// `restricted`, `root`, or the image's own default.
    pub privilege: Option<String>,
    /// `none` or `nat`.
    pub network: String,
    /// Where it may connect; only with `nat`.
    #[serde(default)]
    pub egress: Egress,
    /// The driver wanted; `None`: the node chooses.
    pub driver: Option<String>,
    /// Its name, used as host name where it is one.
    pub name: Option<String>,
    /// Paused, it wakes up when it is used.
    #[serde(default)]
    pub auto_resume: bool,
    /// Made from this snapshot: image, driver, privilege and, with memory, resources are the snapshot's.
    #[serde(default)]
    pub snapshot: Option<SnapshotId>,
    /// Ports inside to publish, each at a port of the node.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Volumes of this node that it has.
    #[serde(default)]
    pub volumes: Vec<Mount>,
}

/// Whether memory and processes are taken along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryWish {
    /// Where the driver can.
    #[default]
    Auto,
    /// Or nothing is done.
    Required,
    /// Files only.
    None,
}

/// A sandbox to fork on its parent's node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForkSandbox {
    /// The running parent.
    pub parent: SandboxId,
    /// The child's id.
    pub id: SandboxId,
    /// Goes over the parent's environment.
    pub env: Map,
    /// The child's name.
    pub name: Option<String>,
    /// Where the child may connect.
    #[serde(default)]
    pub egress: Egress,
    /// Whether the child goes on with the parent's processes.
    #[serde(default)]
    pub memory: MemoryWish,
    /// This snapshot of the parent is forked, with what it has, and not the parent as it is now.
    #[serde(default)]
    pub base: Option<SnapshotId>,
}

/// A snapshot to take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeSnapshot {
    /// The running sandbox.
    pub sandbox: SandboxId,
    /// The snapshot's id.
    pub id: SnapshotId,
    /// Whether its processes are kept.
    pub memory: MemoryWish,
    /// What commands start with in what is made from it; `None`: the same as in this sandbox.
    #[serde(default)]
    pub defaults: Option<Defaults>,
}

/// What commands in a sandbox start with unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// The environment.
    pub env: Map,
    /// Where, an absolute path.
    pub workdir: String,
    /// As whom; empty: whoever is there.
    pub user: String,
    /// What runs in it from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// A program that runs in a sandbox from the start, as a script for the shell. It goes on with memory; without, it is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Runs on and on.
    pub command: String,
    /// Succeeds once that is ready.
    pub ready: String,
}

/// The tag of that program. That it runs does not keep its sandbox awake.
pub const START_TAG: &str = "skerry.start";

/// What a node says of one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Which.
    pub id: SnapshotId,
    /// What it was taken of.
    pub sandbox: SandboxId,
    /// The image of that sandbox.
    pub image: String,
    /// Its driver: only this one can restore it.
    pub driver: String,
    /// What the sandbox could use; with memory, also what is made from it.
    pub resources: Resources,
    /// It has memory and processes.
    pub memory: bool,
    /// What it takes on disk, as far as the storage can say.
    pub bytes: u64,
    /// For how long the sandbox stood still, in microseconds.
    pub held_us: u64,
    /// When it was taken.
    pub created_at: Timestamp,
}

/// Sandboxes frozen to disk.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Takes one; the sandbox runs on.
    async fn take_snapshot(&self, request: TakeSnapshot) -> Result<SnapshotReport>;
    /// All on this node.
    async fn list_snapshots(&self) -> Result<Vec<SnapshotReport>>;
    /// Removes one, once nobody is making anything from it; what was made from it lives on. One that is not there is fine.
    async fn remove_snapshot(&self, id: SnapshotId) -> Result<()>;
    /// Puts a running or paused sandbox back to one of its snapshots: its files, and with memory its processes, are those of then. It runs afterwards.
    async fn roll_back(&self, sandbox: SandboxId, to: SnapshotId) -> Result<SandboxReport>;
}

/// What a node says of one of its sandboxes. The node is the only one who knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxReport {
    /// Which.
    pub id: SandboxId,
    /// Its state now.
    pub state: SandboxState,
    /// Why it failed, or why it was stopped without being asked.
    pub reason: Option<FailureReason>,
    /// The same for a person.
    pub message: Option<String>,
    /// What it really is, once it was made.
    pub facts: Option<SandboxFacts>,
    /// When it started to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When something last used it.
    pub last_active_at: Timestamp,
    /// How long making it took, in microseconds.
    pub boot_us: Option<u64>,
}

/// What a sandbox really is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxFacts {
    /// ns, gvisor, vm, docker, fly or sim.
    pub driver: String,
    /// namespace, `application_kernel`, vm, remote or none.
    pub isolation: String,
    /// What runs a guest's instructions: kvm or tcg. Nothing where there is no guest.
    pub accelerator: Option<String>,
    /// restricted or root.
    pub privilege: String,
    /// btrfs, reflink, copy …
    pub storage: String,
    /// The disk limit binds.
    pub disk_quota: bool,
    /// The memory, CPU and process limits bind.
    pub limits: bool,
    /// Digest of the image.
    pub image_digest: String,
    /// How a fork was made: `files`, or `files+memory`.
    pub fork: Option<String>,
    /// Its ports that are reached at ports of the node, until it ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedPort>,
}

/// What a sandbox uses now; units as in the REST API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStats {
    /// Processor time since its start.
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

/// Lives of sandboxes.
#[async_trait]
pub trait Sandboxes: Send + Sync {
    /// Makes one. The id again: conflict. Returns when it runs, or with the failure after everything of it was removed.
    async fn create(&self, request: CreateSandbox) -> Result<SandboxReport>;
    /// Forks one; returns when the child runs.
    async fn fork(&self, request: ForkSandbox) -> Result<SandboxReport>;
    /// Ends it gently: processes get TERM, then KILL after the grace. Returns at once with the state; `watch` tells the rest.
    /// `reason` is given when nobody asked for it (age, idleness). One that is stopping already gets KILL at once.
    async fn stop(&self, id: SandboxId, reason: Option<FailureReason>) -> Result<SandboxReport>;
    /// Starts one that has ended again, with the files that it had; returns when it runs. One that runs is fine. On error it is as it was, unless
    /// what its template starts did not come up: then it runs without.
    async fn start(&self, id: SandboxId) -> Result<SandboxReport>;
    /// Ends it hard and removes all but its journal. One that is not there is fine.
    async fn delete(&self, id: SandboxId) -> Result<()>;
    /// Freezes it where its driver can; one that is paused is fine. With `unless_used_since` one that was used after that stays as it is.
    async fn pause(
        &self,
        id: SandboxId,
        unless_used_since: Option<Timestamp>,
    ) -> Result<SandboxReport>;
    /// Thaws it; one that runs is fine.
    async fn resume(&self, id: SandboxId) -> Result<SandboxReport>;
    /// Whether it wakes up when it is used while it is paused.
    async fn set_auto_resume(&self, id: SandboxId, auto_resume: bool) -> Result<()>;
    /// Where it may connect from now on, instead of what was said before. What that forbids of its open connections ends.
    async fn set_egress(&self, id: SandboxId, egress: Egress) -> Result<()>;
    /// Everything on this node, the ended but not deleted included.
    async fn list(&self) -> Result<Vec<SandboxReport>>;
    /// One.
    async fn get(&self, id: SandboxId) -> Result<SandboxReport>;
    /// What commands in it start with.
    async fn defaults(&self, id: SandboxId) -> Result<Defaults>;
    /// Every change from now on. A watcher that falls behind misses changes and gets an error item; it then lists again.
    fn watch(&self) -> BoxStream<'static, Result<SandboxReport>>;
    /// What it uses now.
    async fn stats(&self, id: SandboxId) -> Result<SandboxStats>;
    /// Says that it was used: moves `last_active_at`.
    async fn touch(&self, id: SandboxId) -> Result<()>;
    /// Puts a warning about its coming end into its journal.
    async fn warn_ttl(&self, id: SandboxId, seconds_remaining: u64) -> Result<()>;
}

/// Programs in sandboxes that listen.
#[async_trait]
pub trait Ports: Send + Sync {
    /// Connects to a port of the sandbox's own loopback: `outgoing` goes to the program, what it says is the answer. Nothing listens there:
    /// [`skerry_types::ErrorCode::PortClosed`].
    ///
    /// The end of either stream ends that direction only. An error in `outgoing` breaks the connection, and so does dropping the answer before
    /// its end; a connection that breaks, or whose sandbox is paused or stopped, ends the answer with an error.
    async fn dial(&self, sandbox: SandboxId, port: u16, outgoing: ByteStream)
    -> Result<ByteStream>;
}

/// An event in a sandbox's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEvent {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When.
    pub ts: Timestamp,
    /// Its type: `sandbox.created`, `exec.output` … `docs/events.md` lists them.
    #[serde(rename = "type")]
    pub kind: String,
    /// What belongs to that type.
    pub data: serde_json::Value,
}

/// Records of sandboxes.
#[async_trait]
pub trait Events: Send + Sync {
    /// Everything that happened after `after_seq`; with `follow` until the sandbox is over.
    async fn events(
        &self,
        sandbox: SandboxId,
        after_seq: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<JournalEvent>>>;
    /// Removes the journals of sandboxes that were deleted before this time; how many.
    async fn purge_journals(&self, deleted_before: Timestamp) -> Result<u64>;
}

/// How a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Why it can keep no files of another sandbox; `None`: it can.
    pub storage: Option<String>,
    /// Why it can keep no record of anything new; `None`: it can.
    pub records: Option<String>,
}

/// Whether a node is well.
#[async_trait]
pub trait Health: Send + Sync {
    /// What keeps it from taking new work.
    async fn health(&self) -> Result<NodeHealth>;
}
