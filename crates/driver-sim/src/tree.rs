//! Files in memory: one sorted map from path to entry.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::Mutex;
use skerry_proto::agent::{Entries, Entry, Failed};
use tokio::sync::broadcast;

const FILE: u32 = 1;
const DIRECTORY: u32 = 2;
/// Entries in one list.
const MAX_PAGE: usize = 1000;
/// Changes that a watch may be behind before it loses some.
const CHANGES: usize = 1024;

/// Why something cannot be done, with the kernel's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileError {
    NotFound = 2,
    NoProcess = 3,
    Busy = 16,
    NotADirectory = 20,
    IsADirectory = 21,
    Invalid = 22,
    Refused = 111,
}

impl FileError {
    pub(crate) fn failed(self) -> Failed {
        let message = match self {
            Self::NotFound => "no such file or directory",
            Self::NoProcess => "nothing of this command runs",
            Self::Busy => "this cannot be changed",
            Self::NotADirectory => "not a directory",
            Self::IsADirectory => "is a directory",
            Self::Invalid => "invalid argument",
            Self::Refused => "connection refused",
        };
        Failed {
            errno: self as i32,
            message: message.to_owned(),
        }
    }
}

#[derive(Debug, Clone)]
enum Node {
    File { content: Vec<u8>, mode: u32 },
    Directory { mode: u32 },
}

/// The files of one sandbox. Paths are absolute and without `.`, `..` and doubled slashes: [`clean`] makes them so.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Mutex<BTreeMap<String, Node>>,
    /// In the order in which they happened.
    changes: broadcast::Sender<Change>,
}

/// What happened to a path; the number is agent.v1's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    pub(crate) path: String,
}

/// See [`skerry_proto::agent::Watched`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Created = 1,
    Written = 2,
    Removed = 3,
    RenamedAway = 4,
    RenamedHere = 5,
    Lost = 7,
}

/// The path that `path` means below `cwd`.
pub(crate) fn clean(cwd: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{cwd}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

/// What the paths of everything below begin with.
pub(crate) fn below(path: &str) -> String {
    if path == "/" {
        path.to_owned()
    } else {
        format!("{path}/")
    }
}

impl Tree {
    pub(crate) fn new() -> Self {
        let root = ("/".to_owned(), Node::Directory { mode: 0o755 });
        Self::of(BTreeMap::from([root]))
    }

    /// All of it at this instant.
    pub(crate) fn copy(&self) -> Self {
        Self::of(self.nodes.lock().clone())
    }

    fn of(nodes: BTreeMap<String, Node>) -> Self {
        Self {
            nodes: Mutex::new(nodes),
            changes: broadcast::Sender::new(CHANGES),
        }
    }

    /// Hears of each change from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Called with the nodes locked, so that the order is right. Nobody may be listening.
    fn tell(&self, kind: ChangeKind, path: &str) {
        let path = path.to_owned();
        let _ = self.changes.send(Change { kind, path });
    }

    /// Bytes in files.
    pub(crate) fn size(&self) -> u64 {
        let nodes = self.nodes.lock();
        let sizes = nodes.values().map(|node| match node {
            Node::File { content, .. } => content.len() as u64,
            Node::Directory { .. } => 0,
        });
        sizes.sum()
    }

    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        match self.nodes.lock().get(path) {
            Some(Node::File { content, .. }) => Ok(content.clone()),
            Some(Node::Directory { .. }) => Err(FileError::IsADirectory),
            None => Err(FileError::NotFound),
        }
    }

    /// Puts content in place of what a file has, or behind it. Its directory must be there.
    pub(crate) fn put(&self, path: &str, content: &[u8], append: bool) -> Result<(), FileError> {
        let mut nodes = self.nodes.lock();
        match nodes.get_mut(path) {
            Some(Node::File { content: has, .. }) => {
                if !append {
                    has.clear();
                }
                has.extend_from_slice(content);
                self.tell(ChangeKind::Written, path);
                return Ok(());
            }
            Some(Node::Directory { .. }) => return Err(FileError::IsADirectory),
            None => {}
        }
        match nodes.get(parent(path)) {
            Some(Node::Directory { .. }) => {}
            Some(Node::File { .. }) => return Err(FileError::NotADirectory),
            None => return Err(FileError::NotFound),
        }
        let (content, mode) = (content.to_vec(), 0o644);
        nodes.insert(path.to_owned(), Node::File { content, mode });
        self.tell(ChangeKind::Created, path);
        Ok(())
    }

    /// The same with its parents, and with a mode if that is not 0.
    pub(crate) fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<Entry, FileError> {
        self.make_dir(parent(path), 0)?;
        self.put(path, content, false)?;
        if let Some(Node::File { mode: has, .. }) = self.nodes.lock().get_mut(path)
            && mode != 0
        {
            *has = mode;
        }
        self.stat(path)
    }

    /// Makes a directory and its parents.
    pub(crate) fn make_dir(&self, path: &str, mode: u32) -> Result<(), FileError> {
        let mut nodes = self.nodes.lock();
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
        for end in ends.chain([path.len()]) {
            let mode = if mode == 0 { 0o755 } else { mode };
            match nodes.get(&path[..end]) {
                Some(Node::Directory { .. }) => {}
                Some(Node::File { .. }) => return Err(FileError::NotADirectory),
                None => {
                    nodes.insert(path[..end].to_owned(), Node::Directory { mode });
                    self.tell(ChangeKind::Created, &path[..end]);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        let inside = below(from);
        if to.starts_with(&inside) || from == "/" {
            return Err(FileError::Invalid);
        }
        let mut nodes = self.nodes.lock();
        if !nodes.contains_key(parent(to)) {
            return Err(FileError::NotFound);
        }
        let node = nodes.remove(from).ok_or(FileError::NotFound)?;
        nodes.insert(to.to_owned(), node);
        let names = names_below(&nodes, &inside);
        for name in names {
            if let Some(node) = nodes.remove(&name) {
                nodes.insert(format!("{to}/{}", &name[inside.len()..]), node);
            }
        }
        self.tell(ChangeKind::RenamedAway, from);
        self.tell(ChangeKind::RenamedHere, to);
        Ok(())
    }

    /// Removes a file, or a directory with all in it.
    pub(crate) fn remove(&self, path: &str) -> Result<(), FileError> {
        if path == "/" {
            return Err(FileError::Busy);
        }
        let mut nodes = self.nodes.lock();
        nodes.remove(path).ok_or(FileError::NotFound)?;
        for name in names_below(&nodes, &below(path)) {
            nodes.remove(&name);
            self.tell(ChangeKind::Removed, &name);
        }
        self.tell(ChangeKind::Removed, path);
        Ok(())
    }

    pub(crate) fn is_dir(&self, path: &str) -> bool {
        matches!(self.nodes.lock().get(path), Some(Node::Directory { .. }))
    }

    pub(crate) fn stat(&self, path: &str) -> Result<Entry, FileError> {
        let nodes = self.nodes.lock();
        let node = nodes.get(path).ok_or(FileError::NotFound)?;
        Ok(entry(path, node))
    }

    /// Entries below a directory by path, at most `depth` levels down; a file lists itself.
    pub(crate) fn list(
        &self,
        path: &str,
        depth: u32,
        after: &str,
        limit: u32,
    ) -> Result<Entries, FileError> {
        let nodes = self.nodes.lock();
        let node = nodes.get(path).ok_or(FileError::NotFound)?;
        if matches!(node, Node::File { .. }) {
            let entries = vec![entry(path, node)];
            return Ok(Entries {
                entries,
                more: false,
            });
        }
        let (inside, depth) = (below(path), depth.max(1) as usize);
        let start = Bound::Excluded(if after > inside.as_str() {
            after
        } else {
            &inside
        });
        let mut found = nodes
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(&inside))
            .filter(|(name, _)| name[inside.len()..].split('/').count() <= depth);
        let limit = MAX_PAGE.min(limit as usize);
        let entries = found
            .by_ref()
            .take(limit)
            .map(|(name, node)| entry(name, node));
        let entries: Vec<Entry> = entries.collect();
        let more = found.next().is_some();
        Ok(Entries { entries, more })
    }
}

fn names_below(nodes: &BTreeMap<String, Node>, inside: &str) -> Vec<String> {
    let all = nodes.range::<str, _>((Bound::Excluded(inside), Bound::Unbounded));
    all.map(|(name, _)| name.clone())
        .take_while(|name| name.starts_with(inside))
        .collect()
}

fn entry(path: &str, node: &Node) -> Entry {
    let (kind, size, mode) = match node {
        Node::File { content, mode } => (FILE, content.len() as u64, *mode),
        Node::Directory { mode } => (DIRECTORY, 0, *mode),
    };
    Entry {
        path: Bytes::copy_from_slice(path.as_bytes()),
        kind,
        size,
        mode,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        ..Entry::default()
    }
}
