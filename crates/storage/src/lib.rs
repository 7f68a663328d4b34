//! The writable layers of sandboxes: a ladder of ways to keep and fork them, behind one type.
//!
//! Each sandbox has one [`Volume`], the upper and work folders of its overlay. [`Storage::open`] chooses the best [`Tier`] there is; everything else works
//! the same on each. All calls block for at most the time a fork of the tier takes: async callers put them on a blocking thread.
//!
//! Invariants: one process per data folder; a volume is whole or not listed, whatever is killed when; existing data is never formatted.
#![warn(missing_docs)]

mod backend;
mod error;
mod ladder;
mod layout;
mod pool;
mod reaper;
mod tier;
mod walk;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, fstatvfs};
use skerry_types::SandboxId;

use crate::backend::Backend;
use crate::layout::{Layout, dress, make_folder};

pub use error::StorageError;
pub use layout::Volume;
pub use tier::{Facts, Tier};

/// Kept free on the disk below for what running sandboxes were promised; no new volume is made below it.
const RESERVE_BYTES: u64 = 256 << 20;

/// A process that was killed may have children that keep its lock until they call exec: a second is enough for them.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How to open the store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The largest the pool may get, in bytes; nine tenths of the disk if not said.
    pub max_bytes: Option<u64>,
    /// Where to begin on the ladder; at the top if not said.
    pub prefer: Option<Tier>,
}

/// The volumes of one data folder. Dropping it leaves them as they are.
#[derive(Debug)]
pub struct Storage {
    // Before the backend, whose unmount comes last but for the lock.
    layout: Layout,
    backend: Backend,
    data: File,
    why_not_better: Option<String>,
    _lock: File,
}

impl Storage {
    /// Opens the store in `data_dir`, an existing folder, and removes what an interrupted operation left.
    ///
    /// The pool is mounted in the mount namespace of the calling thread.
    pub fn open(data_dir: &Path, options: &Options) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Folder {
            path: data_dir.to_owned(),
            source,
        };
        let data_dir = data_dir.canonicalize().map_err(failed)?;
        let data = File::open(&data_dir).map_err(failed)?;
        let lock = lock(&data_dir)?;
        let ladder::Chosen {
            backend,
            layout,
            why_not_better,
        } = ladder::choose(&data_dir, options)?;
        let storage = Self {
            layout,
            backend,
            data,
            why_not_better,
            _lock: lock,
        };
        storage.clear_staging();
        Ok(storage)
    }

    /// The rung of the ladder in use.
    pub fn tier(&self) -> Tier {
        self.backend.tier()
    }

    /// What storage is here, now.
    pub fn facts(&self) -> Result<Facts, StorageError> {
        let usage = |e: rustix::io::Errno| StorageError::Usage(e.into());
        let stat = fstatvfs(&self.layout.volumes).map_err(usage)?;
        let free = stat.f_bavail * stat.f_frsize;
        Ok(Facts {
            tier: self.tier(),
            disk_quota: self.backend.disk_quota(),
            constant_time_fork: self.tier() == Tier::Btrfs,
            path: self.layout.root.clone(),
            total_bytes: stat.f_blocks * stat.f_frsize,
            free_bytes: free.min(self.disk_free()?),
            why_not_better: self.why_not_better.clone(),
        })
    }

    /// Makes an empty volume that may hold `limit_bytes`, owned by `owner` (user, group).
    pub fn create(
        &self,
        id: SandboxId,
        limit_bytes: u64,
        owner: (u32, u32),
    ) -> Result<Volume, StorageError> {
        self.stage(id, limit_bytes, owner, |name| {
            let make = || {
                let volume = self.backend.make(&self.layout.staging, name)?;
                make_folder(&volume, "upper", owner)?;
                Ok(volume)
            };
            make().map_err(|source| StorageError::Create { id, source })
        })
    }

    /// Makes a volume with what `parent` holds at this instant and an empty work folder.
    ///
    /// Consistent if nothing writes to `parent` meanwhile: freeze it. `limit_bytes` and `owner` are the child's; files keep their owners. Where
    /// [`Facts::disk_quota`] holds, the limit bounds what the child writes itself, not what it shares with its parent.
    pub fn fork(
        &self,
        parent: SandboxId,
        child: SandboxId,
        limit_bytes: u64,
        owner: (u32, u32),
    ) -> Result<Volume, StorageError> {
        let failed = |source| StorageError::Fork { parent, source };
        let source = self
            .layout
            .open_volume(parent)
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => StorageError::Missing(parent),
                _ => failed(e),
            })?;
        self.stage(child, limit_bytes, owner, |name| {
            let copy = || {
                let volume = self.backend.copy(&source, &self.layout.staging, name)?;
                match fs::remove_dir_all(self.layout.staged(child).join("work")) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                    _ => Ok(volume),
                }
            };
            copy().map_err(failed)
        })
    }

    /// Writes out what is not on disk yet, so that a fork that follows holds its parent still for less time. Nothing need be frozen for it.
    pub fn settle(&self, id: SandboxId) -> Result<(), StorageError> {
        if self.tier() != Tier::Btrfs {
            return Ok(());
        }
        let settle = || Ok(rustix::fs::syncfs(self.layout.open_volume(id)?)?);
        settle().map_err(|source| StorageError::Settle { id, source })
    }

    /// The volume of `id`, if it has one.
    pub fn get(&self, id: SandboxId) -> Option<Volume> {
        self.layout
            .open_volume(id)
            .ok()
            .map(|_| self.layout.volume(id))
    }

    /// Takes a volume away; nothing happens if there is none. The space comes back in the background.
    pub fn destroy(&self, id: SandboxId) -> Result<(), StorageError> {
        self.backend
            .remove(&self.layout.volumes, id.label().as_ref(), &self.layout)
            .map_err(|source| StorageError::Destroy { id, source })
    }

    /// All volumes, for the sweep of those without a sandbox.
    pub fn list(&self) -> Result<Vec<SandboxId>, StorageError> {
        self.layout.ids().map_err(StorageError::List)
    }

    /// The bytes that a volume takes: what it wrote itself as of the last second where the file system counts, else the sum over its files.
    pub fn usage(&self, id: SandboxId) -> Result<u64, StorageError> {
        let volume = self.layout.open_volume(id).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::Missing(id),
            _ => StorageError::Usage(e),
        })?;
        match self.backend.counted(&volume).map_err(StorageError::Usage)? {
            Some(bytes) => Ok(bytes),
            None => walk::disk_bytes(&volume).map_err(StorageError::Usage),
        }
    }

    /// Takes over space that the disk below has gained; returns the bytes the store can have. Call it now and then. Giving back needs no call.
    pub fn grow(&self) -> Result<u64, StorageError> {
        match self.backend.pool() {
            Some(pool) => pool.grow(),
            None => Ok(self.facts()?.total_bytes),
        }
    }

    /// Fails if the store has lost data or cannot be written any more, and says what to do.
    pub fn check(&self) -> Result<(), StorageError> {
        self.backend.pool().map_or(Ok(()), pool::Pool::check)
    }

    /// Fills a folder in `staging/` by `fill`, then dresses, limits and publishes it; removes it if a step fails.
    fn stage(
        &self,
        id: SandboxId,
        limit_bytes: u64,
        owner: (u32, u32),
        fill: impl FnOnce(&str) -> Result<File, StorageError>,
    ) -> Result<Volume, StorageError> {
        if self.layout.open_volume(id).is_ok() {
            return Err(StorageError::Exists(id));
        }
        self.keep_reserve()?;
        let name = id.label();
        let staged = fill(&name).and_then(|volume| {
            let limit = |source| StorageError::Limit { id, source };
            self.backend.limit(&volume, limit_bytes).map_err(limit)?;
            let finish = || {
                make_folder(&volume, "work", owner)?;
                dress(&volume, owner)?;
                self.layout.publish(id)
            };
            finish().map_err(|source| StorageError::Create { id, source })
        });
        if staged.is_err() {
            drop(
                self.backend
                    .remove(&self.layout.staging, name.as_ref(), &self.layout),
            );
        }
        staged
    }

    fn keep_reserve(&self) -> Result<(), StorageError> {
        let free_bytes = self.disk_free()?;
        if free_bytes >= RESERVE_BYTES {
            return Ok(());
        }
        Err(StorageError::DiskFull {
            free_bytes,
            reserve_bytes: RESERVE_BYTES,
        })
    }

    /// Free bytes on the disk that holds the data folder.
    fn disk_free(&self) -> Result<u64, StorageError> {
        let stat = fstatvfs(&self.data).map_err(|e| StorageError::Usage(e.into()))?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Half-made volumes of a process that died; this one has made none yet.
    fn clear_staging(&self) {
        let staging = &self.layout.staging;
        for name in layout::names(staging).unwrap_or_default() {
            if let Err(e) = self.backend.remove(staging, &name, &self.layout) {
                tracing::warn!(error = %e, ?name, "cannot remove a half-made volume");
            }
        }
    }
}

/// The lock of a data folder, held until the file is closed.
fn lock(data: &Path) -> Result<File, StorageError> {
    let path = data.join("storage.lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = file.map_err(|source| StorageError::Folder {
        path: path.clone(),
        source,
    })?;
    for attempt in 1.. {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(_) if attempt < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(_) => return Err(StorageError::InUse { path }),
        }
    }
    Ok(file)
}
