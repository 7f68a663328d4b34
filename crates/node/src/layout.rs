//! Where a node keeps what: `<data>/sandboxes/<label>/{meta.json, journal}` and `<data>/snapshots/<label>.json`.
//!
//! `meta.json` is there as long as the sandbox is not deleted, as `meta.deleting` while it is; the journal stays until it is purged.

use std::io;
use std::path::{Path, PathBuf};

use skerry_sys::folder;
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

    /// What it is called while the sandbox is being deleted.
    pub(crate) fn meta_of_deleting(&self, id: SandboxId) -> PathBuf {
        self.folder(id).join("meta.deleting")
    }

    pub(crate) fn journal(&self, id: SandboxId) -> PathBuf {
        self.folder(id).join("journal")
    }

    pub(crate) fn snapshot(&self, id: SnapshotId) -> PathBuf {
        self.snapshots.join(format!("{}.json", id.label()))
    }

    /// Every snapshot with a record.
    pub(crate) fn list_snapshots(&self) -> io::Result<Vec<SnapshotId>> {
        folder::names(&self.snapshots, ".json")
    }

    /// Every sandbox with a folder.
    pub(crate) fn list(&self) -> io::Result<Vec<SandboxId>> {
        folder::names(&self.root, "")
    }
}
