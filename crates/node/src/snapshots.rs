//! Snapshots that this node keeps: what the driver has of them, and what a sandbox made from one needs to know.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use skerry_image::{Hold, Images};
use skerry_proto::node::SnapshotReport;
use skerry_types::{Error, Result, SnapshotId};

use crate::event::Event;
use crate::layout::Layout;
use crate::meta::Meta;
use crate::record;

/// As it stands on disk. Holds env values, so only its owner may read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) report: SnapshotReport,
    /// Of the sandbox that it was taken of.
    pub(crate) meta: Meta,
    /// What goes on in a sandbox made from it.
    pub(crate) open: Vec<Event>,
}

#[derive(Debug)]
struct Entry {
    kept: Arc<Kept>,
    /// Its image stays; `None` if that was damaged, and making a sandbox will say so.
    _image: Option<Hold>,
}

/// All of them, by id. What is not here does not exist, whatever a crash left on disk.
#[derive(Debug)]
pub(crate) struct Archive {
    layout: Layout,
    entries: RwLock<HashMap<SnapshotId, Entry>>,
}

impl Archive {
    /// Reads what an earlier daemon kept.
    pub(crate) fn open(layout: Layout, images: &Images) -> io::Result<Self> {
        let mut entries = HashMap::new();
        for id in layout.list_snapshots()? {
            match record::load::<Kept>(&layout.snapshot(id)) {
                Ok(kept) => drop(entries.insert(id, entry(kept, images))),
                Err(error) => tracing::error!(snapshot = %id, %error, "cannot read its record"),
            }
        }
        Ok(Self {
            layout,
            entries: RwLock::new(entries),
        })
    }

    /// From now on it exists.
    pub(crate) fn keep(&self, kept: Kept, images: &Images) -> Result<()> {
        let id = kept.report.id;
        record::save(&kept, &self.layout.snapshot(id))
            .map_err(|e| Error::internal(format!("cannot write the snapshot's record: {e}")))?;
        self.entries.write().insert(id, entry(kept, images));
        Ok(())
    }

    pub(crate) fn get(&self, id: SnapshotId) -> Result<Arc<Kept>> {
        let found = self.entries.read().get(&id).map(|e| Arc::clone(&e.kept));
        found.ok_or_else(|| Error::not_found(format!("snapshot {id}")))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Kept>> {
        let entries = self.entries.read();
        entries.values().map(|e| Arc::clone(&e.kept)).collect()
    }

    /// From now on it does not exist.
    pub(crate) fn forget(&self, id: SnapshotId) -> Result<()> {
        match std::fs::remove_file(self.layout.snapshot(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::internal(format!("cannot remove its record: {e}")));
            }
            _ => {}
        }
        self.entries.write().remove(&id);
        Ok(())
    }
}

fn entry(kept: Kept, images: &Images) -> Entry {
    let image = images.hold(&kept.meta.image);
    if let Err(error) = &image {
        tracing::warn!(snapshot = %kept.report.id, %error, "its image is not whole any more");
    }
    Entry {
        kept: Arc::new(kept),
        _image: image.ok(),
    }
}
