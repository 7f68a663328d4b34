//! Where a node keeps what: `<data>/sandboxes/<label>/{meta.json, journal}`.
//!
//! `meta.json` is there as long as the sandbox is not deleted; the journal stays until it is purged.

use std::io;
use std::path::{Path, PathBuf};

use skerry_types::SandboxId;

/// The folders of a node.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("sandboxes");
        std::fs::create_dir_all(&root)?;
        Ok(Self { root })
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

    /// Every sandbox with a folder. Other names are not ours and left alone.
    pub(crate) fn list(&self) -> io::Result<Vec<SandboxId>> {
        let entries = std::fs::read_dir(&self.root)?;
        Ok(entries
            .filter_map(Result::ok)
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect())
    }
}
