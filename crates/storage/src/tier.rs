//! The ladder: how a volume is forked here, and what that costs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A way to keep writable layers, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// btrfs subvolumes: a fork is a snapshot.
    Btrfs,
    /// A walk that shares the blocks of each file.
    Reflink,
    /// A walk that copies each file.
    Copy,
}

impl Tier {
    /// The word on the wire and on the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        }
    }

    /// What a fork costs, in words for `doctor`.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs subvolumes: a fork takes milliseconds, whatever was written",
            Self::Reflink => "reflink copy: a fork takes time per file, not per byte",
            Self::Copy => "plain copy: a fork takes time and space for all that was written",
        }
    }
}

/// What storage is here, for `doctor` and the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The tier in use.
    pub tier: Tier,
    /// Each volume stops at its own limit.
    pub disk_quota: bool,
    /// A fork costs the same whatever was written.
    pub constant_time_fork: bool,
    /// The folder that holds the volumes.
    pub path: PathBuf,
    /// The size of the file system that holds them, in bytes.
    pub total_bytes: u64,
    /// What can still be written, in bytes: the lesser of what the pool and the disk below it have.
    pub free_bytes: u64,
    /// Why the ladder did not stop at a better rung, if there is one.
    pub why_not_better: Option<String>,
}
