//! The messages of the filesystem service.

use serde::{Deserialize, Serialize};
use skerry_proto::node::{FileChangeKind, FileEntry, FileKind, Map};

use crate::envd::files::metadata;

/// A message about one path. Fields of calls that have no use for them are left out by their clients.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct At {
    pub(super) path: String,
    pub(super) depth: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Move {
    pub(super) source: String,
    pub(super) destination: String,
}

/// A directory to watch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Watch {
    pub(super) path: String,
    pub(super) recursive: bool,
    /// What is at the path is wanted with each event.
    #[serde(alias = "include_entry")]
    pub(super) include_entry: bool,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Watcher {
    #[serde(alias = "watcher_id")]
    pub(super) watcher_id: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct One {
    pub(super) entry: EntryInfo,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Several {
    pub(super) entries: Vec<EntryInfo>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Events {
    pub(super) events: Vec<Event>,
}

/// A change in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    /// Relative to the watched directory.
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entry: Option<EntryInfo>,
}

/// What clients call a change; `None`: changes were lost.
pub(super) const fn event_kind(change: FileChangeKind) -> Option<&'static str> {
    Some(match change {
        FileChangeKind::Created | FileChangeKind::MovedTo => "EVENT_TYPE_CREATE",
        FileChangeKind::Modified => "EVENT_TYPE_WRITE",
        FileChangeKind::Removed => "EVENT_TYPE_REMOVE",
        FileChangeKind::MovedFrom => "EVENT_TYPE_RENAME",
        FileChangeKind::Attributes => "EVENT_TYPE_CHMOD",
        FileChangeKind::Overflow => return None,
    })
}

/// What is at a path. Of a link, kind and mode are of what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EntryInfo {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
    /// A number as text, as 64 bits are written in JSON.
    size: String,
    mode: u32,
    permissions: String,
    owner: String,
    group: String,
    modified_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink_target: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map,
}

impl EntryInfo {
    pub(super) fn of(entry: FileEntry) -> Self {
        let is_link = entry.kind == FileKind::Symlink;
        let (kind, mode) = match (&entry.resolved, is_link) {
            (Some(end), _) => (end.kind, end.mode),
            (None, true) => (FileKind::Other, 0),
            (None, false) => (entry.kind, entry.mode),
        };
        let end = entry.resolved.as_ref().map(|end| end.path.clone());
        Self {
            kind: match kind {
                FileKind::File => "FILE_TYPE_FILE",
                FileKind::Directory => "FILE_TYPE_DIRECTORY",
                FileKind::Symlink => "FILE_TYPE_SYMLINK",
                FileKind::Other => "FILE_TYPE_UNSPECIFIED",
            },
            size: entry.size_bytes.to_string(),
            mode: mode & 0o777,
            permissions: permissions(entry.kind, entry.mode),
            modified_time: entry.modified_at.to_string(),
            // One that leads nowhere leads to itself.
            symlink_target: is_link.then(|| end.unwrap_or_else(|| entry.path.clone())),
            metadata: metadata::of(&entry),
            name: entry.name,
            path: entry.path,
            owner: entry.owner,
            group: entry.group,
        }
    }
}

/// Letters as the original writes them: first what is unusual about the entry, or a dash, then nine for who may do what.
fn permissions(kind: FileKind, mode: u32) -> String {
    let unusual = [
        (kind == FileKind::Directory, 'd'),
        (kind == FileKind::Symlink, 'L'),
        (mode & 0o4000 != 0, 'u'),
        (mode & 0o2000 != 0, 'g'),
        (mode & 0o1000 != 0, 't'),
    ];
    let mut letters: String = unusual
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, c)| *c)
        .collect();
    if letters.is_empty() {
        letters.push('-');
    }
    for (at, letter) in "rwxrwxrwx".chars().enumerate() {
        letters.push(if mode & (0o400 >> at) == 0 {
            '-'
        } else {
            letter
        });
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_have_the_letters_that_clients_know() {
        for (kind, mode, wanted) in [
            (FileKind::File, 0o644, "-rw-r--r--"),
            (FileKind::File, 0o4755, "urwxr-xr-x"),
            (FileKind::Directory, 0o755, "drwxr-xr-x"),
            (FileKind::Directory, 0o1777, "dtrwxrwxrwx"),
            (FileKind::Symlink, 0o777, "Lrwxrwxrwx"),
            (FileKind::Other, 0o600, "-rw-------"),
        ] {
            assert_eq!(permissions(kind, mode), wanted);
        }
    }
}
