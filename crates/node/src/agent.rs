//! Between the agent's words and ours. What the agent says is data from a hostile place.

use bytes::Bytes;
use jiff::Timestamp;
use skerry_proto::agent::{Attribute, Entry, EnvVar, Failed, TtySize as AgentTtySize, Watched};
use skerry_proto::node::{FileChange, FileChangeKind, FileEntry, FileKind, Map, Resolved, TtySize};
use skerry_types::{Error, ErrorCode};

pub(crate) fn env(map: &Map) -> Vec<EnvVar> {
    map.iter()
        .map(|(name, value)| EnvVar {
            name: Bytes::copy_from_slice(name.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        })
        .collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn tty(size: TtySize) -> AgentTtySize {
    AgentTtySize {
        cols: size.cols.into(),
        rows: size.rows.into(),
    }
}

pub(crate) fn entry(entry: &Entry) -> FileEntry {
    let path = text(&entry.path);
    FileEntry {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        kind: kind(entry.kind),
        path,
        size_bytes: entry.size,
        mode: entry.mode & 0o7777,
        owner: entry.owner.clone(),
        group: entry.group.clone(),
        modified_at: Timestamp::from_microsecond(entry.modified_us)
            .unwrap_or(Timestamp::UNIX_EPOCH),
        symlink_target: (entry.kind == 3).then(|| text(&entry.target)),
        resolved: entry.resolved.as_ref().map(|found| Resolved {
            path: text(&found.path),
            kind: kind(found.kind),
            mode: found.mode & 0o7777,
        }),
        attributes: entry.attributes.iter().map(attribute).collect(),
    }
}

fn kind(kind: u32) -> FileKind {
    match kind {
        1 => FileKind::File,
        2 => FileKind::Directory,
        3 => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

fn attribute(attribute: &Attribute) -> (String, String) {
    (text(&attribute.name), text(&attribute.value))
}

pub(crate) fn change(watched: &Watched) -> Option<FileChange> {
    let change = match watched.kind {
        1 => FileChangeKind::Created,
        2 => FileChangeKind::Modified,
        3 => FileChangeKind::Removed,
        4 => FileChangeKind::MovedFrom,
        5 => FileChangeKind::MovedTo,
        6 => FileChangeKind::Attributes,
        7 => FileChangeKind::Overflow,
        _ => return None,
    };
    Some(FileChange {
        change,
        path: text(&watched.path),
    })
}

/// Linux error numbers that callers can do something about.
mod errno {
    pub(super) const PERM: i32 = 1;
    pub(super) const NOENT: i32 = 2;
    pub(super) const SRCH: i32 = 3;
    pub(super) const ACCES: i32 = 13;
    pub(super) const EXIST: i32 = 17;
    pub(super) const FBIG: i32 = 27;
    pub(super) const NOSPC: i32 = 28;
    pub(super) const ROFS: i32 = 30;
    pub(super) const DQUOT: i32 = 122;
}

/// A refusal of the sandbox's kernel as the caller should see it.
pub(crate) fn failure(failed: &Failed) -> Error {
    let code = match failed.errno {
        errno::NOENT => ErrorCode::NotFound,
        errno::PERM | errno::ACCES | errno::ROFS => ErrorCode::Forbidden,
        errno::EXIST | errno::SRCH => ErrorCode::Conflict,
        errno::FBIG => ErrorCode::TooLarge,
        errno::NOSPC | errno::DQUOT => ErrorCode::DiskFull,
        _ => ErrorCode::ValidationError,
    };
    Error::new(code, failed.message.chars().take(1000).collect::<String>())
}
