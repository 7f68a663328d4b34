//! Snapshots that this node keeps: what the driver has of them, and what a sandbox made from one needs to know.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use skerry_image::{Hold, Images};
use skerry_proto::node::SnapshotReport;
use skerry_types::{Error, Result, SnapshotId};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

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
    /// The last event of that sandbox that it has.
    #[serde(default)]
    pub(crate) at_seq: u64,
}

#[derive(Debug)]
struct Entry {
    kept: Arc<Kept>,
    /// Those who make something of it; removing it waits for them.
    users: Arc<RwLock<()>>,
    /// It is being removed: nobody new gets it.
    is_leaving: bool,
    /// Its image stays; `None` if that was damaged, and making a sandbox will say so.
    _image: Option<Hold>,
}

/// One that is not removed as long as this is there.
#[derive(Debug)]
pub(crate) struct InUse {
    kept: Arc<Kept>,
    _user: OwnedRwLockReadGuard<()>,
}

impl Deref for InUse {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        &self.kept
    }
}

/// All of them, by id. What is not here does not exist, whatever a crash left on disk.
#[derive(Debug)]
pub(crate) struct Archive {
    layout: Layout,
    entries: Mutex<HashMap<SnapshotId, Entry>>,
}

impl Archive {
    /// Reads what an earlier daemon kept.
    pub(crate) fn open(layout: Layout, images: &Images) -> io::Result<Self> {
        let mut entries = HashMap::new();
        for id in layout.list_snapshots()? {
            match record::load::<Kept>(&layout.snapshot(id)) {
                Ok(kept) => drop(entries.insert(id, entry(kept, images))),
                // Half a record is none. One that cannot be read now is there all the same, and must not be taken for nothing.
                Err(error) if record::is_broken(&error) => {
                    tracing::error!(snapshot = %id, %error, "its record is broken");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            layout,
            entries: Mutex::new(entries),
        })
    }

    /// From now on it exists.
    pub(crate) fn keep(&self, kept: Kept, images: &Images) -> Result<()> {
        let id = kept.report.id;
        record::save_on_disk(&kept, &self.layout.snapshot(id))
            .map_err(|e| Error::internal(format!("cannot write the snapshot's record: {e}")))?;
        self.entries.lock().insert(id, entry(kept, images));
        Ok(())
    }

    /// To make something of it.
    pub(crate) fn take(&self, id: SnapshotId) -> Result<InUse> {
        let entries = self.entries.lock();
        let there = entries.get(&id).filter(|entry| !entry.is_leaving);
        let taken = there.and_then(|entry| {
            Some(InUse {
                kept: Arc::clone(&entry.kept),
                _user: Arc::clone(&entry.users).try_read_owned().ok()?,
            })
        });
        taken.ok_or_else(|| Error::not_found(format!("snapshot {id}")))
    }

    pub(crate) fn exists(&self, id: SnapshotId) -> bool {
        self.entries.lock().contains_key(&id)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Kept>> {
        let entries = self.entries.lock();
        let there = entries.values().filter(|entry| !entry.is_leaving);
        there.map(|entry| Arc::clone(&entry.kept)).collect()
    }

    /// From now on it does not exist to anybody new. Returns once nobody makes anything of it, and only one who removes it goes on.
    pub(crate) async fn retire(&self, id: SnapshotId) -> Result<Option<OwnedRwLockWriteGuard<()>>> {
        match std::fs::remove_file(self.layout.snapshot(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::internal(format!("cannot remove its record: {e}")));
            }
            _ => {}
        }
        let users = self.entries.lock().get_mut(&id).map(|entry| {
            entry.is_leaving = true;
            Arc::clone(&entry.users)
        });
        Ok(match users {
            Some(users) => Some(users.write_owned().await),
            None => None,
        })
    }

    /// Nothing of it is left.
    pub(crate) fn forget(&self, id: SnapshotId) {
        self.entries.lock().remove(&id);
    }
}

fn entry(kept: Kept, images: &Images) -> Entry {
    let image = images.hold(&kept.meta.image);
    if let Err(error) = &image {
        tracing::warn!(snapshot = %kept.report.id, %error, "its image is not whole any more");
    }
    Entry {
        kept: Arc::new(kept),
        users: Arc::default(),
        is_leaving: false,
        _image: image.ok(),
    }
}
