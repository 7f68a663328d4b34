//! Files in sandboxes.

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{Result, SandboxId};

use super::{ByteStream, Map};

/// A file system entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Last part of the path. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Absolute path.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Bytes.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name or number.
    pub owner: String,
    /// Group's name or number.
    pub group: String,
    /// Last change of content.
    pub modified_at: Timestamp,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
    /// Where a symbolic link leads in the end, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Extended attributes in `user.`, by their whole names. Bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Map,
}

/// See [`FileEntry::resolved`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// A path without any link in it.
    pub path: String,
    /// What is there.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Its permission bits.
    pub mode: u32,
}

/// A user of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFacts {
    /// Name, or number where there is none.
    pub name: String,
    /// Home directory, an absolute path.
    pub home: String,
}

/// A file to write into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overwrite {
    /// Absolute.
    pub path: String,
    /// Who owns it from then on; `None`: the image's user.
    pub user: Option<String>,
    /// Of its extended attributes, those whose names begin like this go; empty: none. Begins with `user.`.
    pub attribute_prefix: String,
    /// These come, by their whole names.
    pub attributes: Map,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// A change below a watched directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// What happened.
    pub change: FileChangeKind,
    /// To which path.
    pub path: String,
}

/// See [`FileChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChangeKind {
    /// It is new.
    Created,
    /// Its content changed.
    Modified,
    /// It is gone.
    Removed,
    /// It was renamed to somewhere else.
    MovedFrom,
    /// It was renamed to here.
    MovedTo,
    /// Its mode or owner changed.
    Attributes,
    /// Changes came faster than they could be told; look again.
    Overflow,
}

/// Files in sandboxes. Paths are absolute, at most [`skerry_types::limits::MAX_PATH_BYTES`] bytes, without NUL; `~` is not special.
#[async_trait]
pub trait Files: Send + Sync {
    /// What is at this path (a link itself, not its target).
    async fn stat(&self, sandbox: SandboxId, path: &str) -> Result<FileEntry>;
    /// Entries below a directory, by path, after `after`; the flag says that there are more.
    async fn list_files(
        &self,
        sandbox: SandboxId,
        path: &str,
        depth: u32,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<FileEntry>, bool)>;
    /// Makes a directory with its parents.
    async fn make_dir(&self, sandbox: SandboxId, path: &str, user: Option<&str>) -> Result<()>;
    /// Renames.
    async fn move_file(&self, sandbox: SandboxId, from: &str, to: &str) -> Result<()>;
    /// Removes a file, or a directory with all in it.
    async fn remove(&self, sandbox: SandboxId, path: &str) -> Result<()>;
    /// A file's entry and content.
    async fn read_file(
        &self,
        sandbox: SandboxId,
        path: &str,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<(FileEntry, ByteStream)>;
    /// Writes a file; it appears whole or not at all.
    async fn write_file(
        &self,
        sandbox: SandboxId,
        path: &str,
        mode: Option<u32>,
        user: Option<&str>,
        content: ByteStream,
    ) -> Result<FileEntry>;
    /// Writes into a file itself, from its start, as any program in the sandbox would; what breaks off leaves a part.
    async fn overwrite_file(
        &self,
        sandbox: SandboxId,
        request: Overwrite,
        content: ByteStream,
    ) -> Result<FileEntry>;
    /// Who has this name; `None`: the image's user. There is no such user: not found.
    async fn find_user(&self, sandbox: SandboxId, user: Option<&str>) -> Result<UserFacts>;
    /// A directory, or file, as a tar stream, without what the patterns mean (see [`crate::glob`]).
    async fn read_tar(
        &self,
        sandbox: SandboxId,
        path: &str,
        exclude: Vec<String>,
    ) -> Result<ByteStream>;
    /// Unpacks a tar stream below a directory; bytes unpacked.
    async fn write_tar(
        &self,
        sandbox: SandboxId,
        path: &str,
        user: Option<&str>,
        content: ByteStream,
    ) -> Result<u64>;
    /// Changes below a directory, from now on.
    async fn watch_files(
        &self,
        sandbox: SandboxId,
        path: &str,
        recursive: bool,
    ) -> Result<BoxStream<'static, Result<FileChange>>>;
}
