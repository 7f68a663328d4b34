//! Snapshots.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{SandboxId, SnapshotId};
use utoipa::ToSchema;

/// Whether memory and processes are taken along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryWish {
    /// Where the driver can do it about as fast as without, which all but `ns` can; the answer says what was done.
    #[default]
    Auto,
    /// Or nothing is done.
    Required,
    /// Files only.
    None,
}

/// Takes a snapshot of a running sandbox, which runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TakeSnapshot {
    /// A name to create sandboxes by, as `image`: `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`. Taken by another snapshot: a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether its processes are kept.
    pub memory: MemoryWish,
    /// Take the name over from the snapshot that has it, and remove that one.
    pub overwrite: bool,
}

/// Puts a running or paused sandbox back to one of its own snapshots: its files are those of then, and what ran has ended. Where the snapshot has
/// memory, what ran then goes on, under new ids. It runs afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The snapshot's id or name.
    pub snapshot: String,
}

/// A sandbox frozen to disk. A sandbox is made from it by creating one with its id or name as `image`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Which.
    #[schema(schema_with = crate::schema::snapshot_id)]
    pub snapshot_id: SnapshotId,
    /// Its name.
    pub name: Option<String>,
    /// What it was taken of.
    #[schema(schema_with = crate::schema::sandbox_id)]
    pub sandbox_id: SandboxId,
    /// The image of that sandbox.
    pub image: String,
    /// The driver of that sandbox, and of what is made from this.
    pub driver: String,
    /// `restricted` or `root`.
    pub privilege: String,
    /// Processors' worth of time that the sandbox had.
    pub vcpus: u32,
    /// Its memory in MiB.
    pub memory_mb: u32,
    /// Its space for what it wrote, in MiB.
    pub disk_mb: u32,
    /// Its processes and threads.
    pub pids: u32,
    /// What it has: `files` or `files+memory`.
    pub kind: String,
    /// What it takes on disk, in bytes, as far as the storage can say.
    pub bytes: u64,
    /// For how long the sandbox stood still, in microseconds.
    pub held_us: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// A page of snapshots, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotPage {
    /// The snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Where the next page starts; `null`: this was the last.
    pub next_cursor: Option<String>,
}
