//! Volumes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::VolumeId;
use utoipa::ToSchema;

/// Makes a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Its name, `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`. Taken by another volume: a conflict.
    pub name: String,
    /// What it may hold, in MiB, from 16 on; 1024 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_mb: Option<u64>,
}

/// A volume for a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Its id or name.
    pub volume: String,
    /// Where in the sandbox: an absolute path, made if it is missing. Not in `/dev`, `/etc`, `/proc`, `/sys` or another volume.
    pub path: String,
}

/// A volume that a sandbox has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MountedVolume {
    /// Which.
    #[schema(schema_with = crate::schema::volume_id)]
    pub volume_id: VolumeId,
    /// Its name.
    pub name: String,
    /// Where in the sandbox.
    pub path: String,
}

/// A folder that outlives sandboxes and that several can have at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Which.
    #[schema(schema_with = crate::schema::volume_id)]
    pub volume_id: VolumeId,
    /// Its name.
    pub name: String,
    /// What it may hold, in MiB.
    pub size_mb: u32,
    /// That limit binds; on storage without quotas it does not. Not in lists.
    pub size_binds: Option<bool>,
    /// What it takes on disk, in bytes. Not in lists.
    pub used_bytes: Option<u64>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// A page of volumes, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumePage {
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// Where the next page starts; `null`: this was the last.
    pub next_cursor: Option<String>,
}

/// Makes a directory in a volume, with its parents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeVolumeDir {
    /// Where, absolute from the volume's root.
    pub path: String,
}
