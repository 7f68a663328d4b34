//! Files in a sandbox. Paths are absolute.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An entry of the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Permission bits as a number.
    pub mode: u32,
    /// The same as `ls` writes them, such as `rwxr-xr-x`.
    pub permissions: String,
    /// Owner's name or number.
    pub owner: String,
    /// Group's name or number.
    pub group: String,
    /// Last change of content.
    pub modified_at: Timestamp,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilePage {
    /// The entries, by path.
    pub files: Vec<FileEntry>,
    /// Where the next page starts; `null`: this was the last.
    pub next_cursor: Option<String>,
}

/// What an upload wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileWritten {
    /// Where.
    pub path: String,
    /// Bytes of content.
    pub bytes_written: u64,
    /// It was an archive.
    pub batch: bool,
}

/// Makes a directory with its parents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeDir {
    /// Where.
    pub path: String,
    /// Who shall own it; the image's user unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Renames a file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveFile {
    /// What.
    pub from: String,
    /// To where.
    pub to: String,
}

/// Downloads a file, with its path in the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadFile {
    /// Which.
    pub path: String,
}

/// The fields of a multipart upload, in this order.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
pub struct UploadForm {
    /// Where to write it.
    pub path: String,
    /// The content.
    #[schema(value_type = String, format = Binary)]
    pub file: Vec<u8>,
}

/// A change below a watched directory, as the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WatchEvent {
    /// `created`, `modified`, `removed`, `moved_from`, `moved_to`, `attributes` or `overflow`.
    pub change: String,
    /// To which path.
    pub path: String,
}
