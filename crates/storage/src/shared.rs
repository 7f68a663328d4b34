//! Folders that several sandboxes share and that outlive them: to users, volumes. Each has a limit of its own where limits bind.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use skerry_types::VolumeId;

use crate::Storage;
use crate::error::StorageError;
use crate::ladder::Chosen;
use crate::layout::{dress, open_folder};
use crate::pool::Pool;
use crate::walk;

/// Whatever user a sandbox runs its programs as, it may write to a folder that it was given.
const SHARED_MODE: u32 = 0o777;

impl Storage {
    /// Makes an empty folder to share that may hold `limit_bytes`, owned by `owner` (user, group). One that is there already stays as it is.
    pub fn create_shared(
        &self,
        id: VolumeId,
        limit_bytes: u64,
        owner: (u32, u32),
    ) -> Result<(), StorageError> {
        let chosen = self.chosen()?;
        let layout = &chosen.layout;
        let name = id.label();
        if open_folder(&layout.shared, &name).is_ok() {
            return Ok(());
        }
        self.keep_reserve(&chosen)?;
        let make = || {
            let folder = chosen.backend.make(&layout.staging, &name)?;
            chosen.backend.limit(&folder, limit_bytes)?;
            dress(&folder, owner)?;
            folder.set_permissions(fs::Permissions::from_mode(SHARED_MODE))?;
            layout.publish_in(&layout.shared, &name)
        };
        let made = make().map_err(|source| StorageError::MakeShared { id, source });
        if made.is_err() {
            drop(
                chosen
                    .backend
                    .remove(&layout.staging, name.as_ref(), layout),
            );
        }
        made
    }

    /// Where it is.
    pub fn shared(&self, id: VolumeId) -> Result<PathBuf, StorageError> {
        let chosen = self.chosen()?;
        open_shared(&chosen, id).map(|_| chosen.layout.shared_path(id))
    }

    /// All of them.
    pub fn list_shared(&self) -> Result<Vec<VolumeId>, StorageError> {
        self.chosen()?
            .layout
            .shared_ids()
            .map_err(StorageError::List)
    }

    /// The bytes that it takes, as [`Storage::usage`] counts.
    pub fn shared_usage(&self, id: VolumeId) -> Result<u64, StorageError> {
        let chosen = self.chosen()?;
        let folder = open_shared(&chosen, id)?;
        let counted = chosen.backend.counted(&folder);
        match counted.map_err(StorageError::Usage)? {
            Some(bytes) => Ok(bytes),
            None => walk::disk_bytes(&folder).map_err(StorageError::Usage),
        }
    }

    /// Takes it away; nothing happens if it is not there. The space comes back in the background.
    pub fn remove_shared(&self, id: VolumeId) -> Result<(), StorageError> {
        let chosen = self.chosen()?;
        let Chosen {
            backend, layout, ..
        } = &*chosen;
        backend.pool().map_or(Ok(()), Pool::must_be_open)?;
        backend
            .remove(&layout.shared, id.label().as_ref(), layout)
            .map_err(|source| StorageError::RemoveShared { id, source })
    }
}

fn open_shared(chosen: &Chosen, id: VolumeId) -> Result<File, StorageError> {
    open_folder(&chosen.layout.shared, id.label()).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StorageError::NoShared(id),
        _ => StorageError::Usage(source),
    })
}
