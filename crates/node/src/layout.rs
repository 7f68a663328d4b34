//! Where a node keeps what: `<data>/sandboxes/<label>/{meta.json, journal}` and `<data>/snapshots/<label>.json`.
//!
//! `meta.json` is there as long as the sandbox is not deleted; the journal stays until it is purged.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use skerry_types::{SandboxId, SnapshotId};

/// The folders of a node.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    snapshots: PathBuf,
}

impl Layout {
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("sandboxes");
        let snapshots = data_dir.join("snapshots");
        std::fs::create_dir_all(&root)?;
        std::fs::create_dir_all(&snapshots)?;
        Ok(Self { root, snapshots })
    }

    pub(crate) fn folder(&self, id: SandboxId) -> PathBuf {
        self.root.join(id.label())
    }

    pub(crate) fn meta(&self, id: SandboxId) -> PathBuf {
        self.folder(id).join("meta.json")
    }

    pub(crate) fn journal(&self, id: SandboxId) -> PathBuf {
        self.folder(id).join("journal")
    }

    pub(crate) fn snapshot(&self, id: SnapshotId) -> PathBuf {
        self.snapshots.join(format!("{}.json", id.label()))
    }

    /// Every snapshot with a record.
    pub(crate) fn list_snapshots(&self) -> io::Result<Vec<SnapshotId>> {
        ids(&self.snapshots, ".json")
    }

    /// Every sandbox with a folder.
    pub(crate) fn list(&self) -> io::Result<Vec<SandboxId>> {
        ids(&self.root, "")
    }
}

/// The ids in a folder, each with this ending. Other names are not ours and left alone.
fn ids<T: FromStr>(folder: &Path, ending: &str) -> io::Result<Vec<T>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(ending));
        ids.extend(id.and_then(|id| id.parse().ok()));
    }
    Ok(ids)
}
