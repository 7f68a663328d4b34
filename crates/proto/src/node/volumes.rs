//! Volumes: folders on a node that outlive sandboxes, and what is in them as seen from outside.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{Result, VolumeId};

use super::{ByteStream, FileKind};

/// A volume in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Which.
    pub volume: VolumeId,
    /// Where inside, an absolute path.
    pub path: String,
}

/// What a node says of one of its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// What it takes on disk.
    pub bytes: u64,
    /// What it may hold binds.
    pub size_binds: bool,
}

/// Something in a volume. Users and groups are numbers: which names they have, each sandbox says for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeEntry {
    /// Last part of the path. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Absolute from the volume's root.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Bytes.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
    /// Last use of the content.
    pub accessed_at: Timestamp,
    /// Last change of the content.
    pub modified_at: Timestamp,
    /// Last change of anything about it.
    pub changed_at: Timestamp,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
}

/// What can be set of an entry; `None`: as it is, or for a new one as its folder has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner inside, at most 65535.
    pub uid: Option<u32>,
    /// Group inside, at most 65535.
    pub gid: Option<u32>,
}

/// Volumes. Paths in one are absolute from its root, at most [`skerry_types::limits::MAX_PATH_BYTES`] bytes, without NUL and `..`; links in it are
/// followed, and lead nowhere but inside.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes an empty one that may hold so many bytes. One that is there is fine.
    async fn create_volume(&self, id: VolumeId, limit_bytes: u64) -> Result<VolumeReport>;
    /// All on this node.
    async fn list_volumes(&self) -> Result<Vec<VolumeId>>;
    /// How one is.
    async fn volume_report(&self, id: VolumeId) -> Result<VolumeReport>;
    /// Removes one with all in it. One that is not there is fine.
    async fn remove_volume(&self, id: VolumeId) -> Result<()>;
    /// What is at a path (a link itself, not its target).
    async fn stat_in_volume(&self, id: VolumeId, path: &str) -> Result<VolumeEntry>;
    /// Entries below a directory, by path, after `after`; the flag says that there are more.
    async fn list_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        depth: u32,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<VolumeEntry>, bool)>;
    /// Makes a directory, with its parents if asked for. One that is there is fine, and stays as it is.
    async fn make_dir_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        parents: bool,
        attributes: VolumeAttributes,
    ) -> Result<VolumeEntry>;
    /// A file's entry and content.
    async fn read_in_volume(&self, id: VolumeId, path: &str) -> Result<(VolumeEntry, ByteStream)>;
    /// Writes a file, with the directories on the way if asked for; it appears whole or not at all.
    async fn write_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        parents: bool,
        attributes: VolumeAttributes,
        content: ByteStream,
    ) -> Result<VolumeEntry>;
    /// Changes what is said of a file or directory.
    async fn change_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        attributes: VolumeAttributes,
    ) -> Result<VolumeEntry>;
    /// Removes a file, or a directory with all in it.
    async fn remove_in_volume(&self, id: VolumeId, path: &str) -> Result<()>;
}
