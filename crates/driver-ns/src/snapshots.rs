//! Snapshots: volumes that no sandbox has. A mark with the snapshot's name stands beside the volumes from before there is one until after
//! it is gone, so that what a crash leaves is found.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use skerry_driver::{DriverError, Snapshot};
use skerry_sys::folder;
use skerry_types::{SandboxId, SnapshotId};

use crate::driver::{NsDriver, blocking};
use crate::start::storage_error;

/// No program writes to a snapshot, so nothing needs to bound it.
pub(crate) const NO_LIMIT: u64 = 1 << 50;

/// Which snapshots there are.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    folder: PathBuf,
}

impl Marks {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn add(&self, id: SnapshotId) -> io::Result<()> {
        File::create_new(self.folder.join(id.label())).map(drop)
    }

    fn remove(&self, id: SnapshotId) -> io::Result<()> {
        match fs::remove_file(self.folder.join(id.label())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn list(&self) -> io::Result<Vec<SnapshotId>> {
        folder::names(&self.folder, "")
    }
}

/// The volume of a snapshot.
pub(crate) fn volume_of(id: SnapshotId) -> SandboxId {
    SandboxId::from_uuid(id.uuid())
}

impl NsDriver {
    /// Keeps the files of a sandbox as they are at one instant.
    pub(crate) async fn keep_files(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        paused: bool,
    ) -> Result<Snapshot, DriverError> {
        let marks = self.marks.clone();
        blocking("mark the snapshot", move || marks.add(snapshot)).await?;
        let began = Instant::now();
        let kept = self
            .copy_volume(id, paused, volume_of(snapshot), NO_LIMIT)
            .await;
        if let Err(error) = kept {
            self.remove_kept(snapshot).await?;
            return Err(error);
        }
        let storage = Arc::clone(&self.storage);
        let bytes = blocking("measure the snapshot", move || {
            storage.usage(volume_of(snapshot)).map_err(io::Error::other)
        });
        Ok(Snapshot {
            held: began.elapsed(),
            bytes: bytes.await?,
            steps: Vec::new(),
        })
    }

    /// Removes volume and memory, then the mark.
    pub(crate) async fn remove_kept(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        let (storage, marks) = (Arc::clone(&self.storage), self.marks.clone());
        let memories = self.memories.clone();
        let removed = tokio::task::spawn_blocking(move || {
            storage
                .destroy(volume_of(snapshot))
                .map_err(storage_error("remove the snapshot"))?;
            memories
                .remove(snapshot)
                .map_err(DriverError::step("remove the snapshot's memory"))?;
            marks
                .remove(snapshot)
                .map_err(DriverError::step("remove the snapshot's mark"))
        });
        removed
            .await
            .map_err(DriverError::step("remove the snapshot"))?
    }
}
