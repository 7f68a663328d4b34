//! What callers ask for.

use jiff::Timestamp;
use skerry_proto::node::{Map, MemoryWish};
use skerry_store::OnTimeout;
use skerry_types::{Egress, SandboxId, SandboxState};

use crate::VolumeWish;

/// A sandbox to make. Everything is optional; `CreateRequest::default()` is a good request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateRequest {
    /// Its id; a new one unless given.
    pub id: Option<SandboxId>,
    /// What it starts from.
    pub image: Option<String>,
    /// small, medium or large. A single value given beside it goes before the profile's.
    pub profile: Option<String>,
    /// Processors' worth of time.
    pub vcpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mb: Option<u32>,
    /// Space for what it writes, in MiB.
    pub disk_mb: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// The environment of everything that runs in it. Values are never stored.
    pub env: Map,
    /// Age limit in seconds, 1 to the org's largest.
    pub ttl_seconds: Option<u64>,
    /// Unused for this many seconds: the same as reaching the age limit. 0: never.
    pub idle_seconds: Option<u64>,
    /// What happens then.
    pub on_timeout: Option<OnTimeout>,
    /// What happens when it was unused for too long, where that is something else.
    pub on_idle: Option<OnTimeout>,
    /// Paused, it wakes up when it is used.
    pub auto_resume: bool,
    /// Paused, it stays until somebody resumes or deletes it, whatever its age limit.
    pub keep_paused: bool,
    /// Seconds to wait for a place.
    pub queue_timeout_seconds: Option<u64>,
    /// Names and values to find it by.
    pub metadata: Map,
    /// A name, `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`, that no other living sandbox of the org has.
    pub name: Option<String>,
    /// Where; `None`: the default region.
    pub region: Option<String>,
    /// `none` or `nat`.
    pub network: Option<String>,
    /// Where it may connect, which takes network `nat`; `None`: as what it is made from, else wherever that leads.
    pub egress: Option<Egress>,
    /// What listens in it is reached without a key.
    pub public_ports: bool,
    /// Its ports to publish on its node, 16 at most.
    pub ports: Vec<u16>,
    /// Volumes that it has.
    pub volumes: Vec<VolumeWish>,
    /// The project it belongs to: a text of 1 to 128 bytes.
    pub project: Option<String>,
    /// The driver wanted.
    pub driver: Option<String>,
    /// The least isolation wanted: none, namespace, `application_kernel`, vm or remote.
    pub isolation: Option<String>,
    /// `restricted` or `root`; `None`: the image's own default.
    pub privilege: Option<String>,
}

/// A sandbox to fork.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForkRequest {
    /// The child's id; a new one unless given.
    pub id: Option<SandboxId>,
    /// Goes over the parent's environment.
    pub env: Map,
    /// The child's age limit; `None`: as the parent's.
    pub ttl_seconds: Option<u64>,
    /// The child's name.
    pub name: Option<String>,
    /// Goes over the parent's metadata.
    pub metadata: Map,
    /// Whether the child goes on with the parent's processes.
    pub memory: MemoryWish,
}

/// New times for a sandbox, counted from now. `None` leaves one as it is; at least one is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutRequest {
    /// Seconds until the age limit, from now.
    pub ttl_seconds: Option<u64>,
    /// The age limit only ever moves away: one that comes later already stays.
    pub only_longer: bool,
    /// Seconds without use; 0: never.
    pub idle_seconds: Option<u64>,
    /// What happens then; an `on_idle` of before is no more.
    pub on_timeout: Option<OnTimeout>,
    /// What happens when it was unused for too long, where that is something else.
    pub on_idle: Option<OnTimeout>,
    /// Paused, it wakes up when it is used.
    pub auto_resume: Option<bool>,
}

/// Which sandboxes to list. Deleted ones only when `status` names that state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only in one of these states; empty: any but deleted.
    pub status: Vec<SandboxState>,
    /// Only of this image.
    pub image: Option<String>,
    /// Only made from this template, by name or id.
    pub template: Option<String>,
    /// Only those that began to run after this.
    pub started_after: Option<Timestamp>,
    /// The oldest first, not the newest.
    pub oldest_first: bool,
    /// Only children of this sandbox.
    pub forked_from: Option<SandboxId>,
    /// Only of this project.
    pub project: Option<String>,
    /// Only with this name.
    pub name: Option<String>,
    /// Only with all of these names and values.
    pub metadata: Map,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// 1 to 200; `None`: 50.
    pub limit: Option<u32>,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It runs (or is paused), or never will.
    Ready,
    /// It has ended.
    Ended,
    /// Its state is not this one.
    Leaves(SandboxState),
}

/// What an operation on a sandbox's data needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It is this tenant's, in whatever state.
    Exists,
    /// It runs.
    Running,
    /// It runs, or wakes up when it is used.
    Use,
    /// Its journal can be read: it once reached a node, and the record is kept.
    Journal,
}

/// An answer that can be given again for the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON text.
    pub body: String,
    /// It is the answer of an earlier request.
    pub replayed: bool,
}
