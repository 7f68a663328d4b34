//! The writable layers of sandboxes: a ladder of ways to keep and fork them, behind one type.
//!
//! Each sandbox has one [`Volume`], the upper and work folders of its overlay. [`Storage::open`] chooses the best [`Tier`] there is; everything else works
//! the same on each. All calls block for at most the time a fork of the tier takes: async callers put them on a blocking thread.
//!
//! Invariants: one process per data folder; a volume is whole or not listed, whatever is killed when; existing data is never formatted.
#![warn(missing_docs)]

mod backend;
mod error;
mod image;
mod keeper;
mod ladder;
mod layout;
mod pool;
mod reaper;
mod room;
mod shared;
mod size;
mod tier;
mod walk;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use rustix::fs::{FlockOperation, fstatvfs};
use skerry_types::SandboxId;

use crate::keeper::Keeper;
use crate::ladder::Chosen;
use crate::layout::{dress, make_folder};
use crate::pool::Pool;
use crate::size::{RESERVE_BYTES, Seen};

pub use error::StorageError;
pub use layout::Volume;
pub use room::Room;
pub use tier::{Facts, Tier};

/// Kept free in the pool for what running sandboxes write; no new volume is made below it.
const POOL_RESERVE_BYTES: u64 = 32 << 20;

/// A process that was killed may have children that keep its lock until they call exec: a second is enough for them.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How to open the store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The largest the pool may get, in bytes; as large as the disk allows if not said.
    pub max_bytes: Option<u64>,
    /// Where to begin on the ladder; at the top if not said.
    pub prefer: Option<Tier>,
}

/// The volumes of one data folder. Dropping it leaves them as they are.
#[derive(Debug)]
pub struct Storage {
    // Before what it looks after, which goes before the lock.
    _keeper: Option<Keeper>,
    store: Arc<Store>,
    _lock: File,
}

/// What the keeper's thread shares.
#[derive(Debug)]
struct Store {
    tier: Tier,
    data_dir: PathBuf,
    data: File,
    options: Options,
    /// Bytes of the disk that are kept for whoever writes beside the volumes.
    promised: Mutex<u64>,
    /// None only if a pool could not be opened again.
    chosen: RwLock<Option<Chosen>>,
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
        let chosen = ladder::choose(&data_dir, options)?;
        chosen.clear_staging();
        let has_pool = chosen.backend.pool().is_some();
        let store = Arc::new(Store {
            tier: chosen.backend.tier(),
            data_dir,
            data,
            options: options.clone(),
            promised: Mutex::new(0),
            chosen: RwLock::new(Some(chosen)),
        });
        let keeper = has_pool.then(|| Keeper::start(Arc::clone(&store)));
        Ok(Self {
            _keeper: keeper.transpose().map_err(failed)?,
            store,
            _lock: lock,
        })
    }

    /// The rung of the ladder in use.
    pub fn tier(&self) -> Tier {
        self.store.tier
    }

    /// What storage is here, now.
    pub fn facts(&self) -> Result<Facts, StorageError> {
        let chosen = self.chosen()?;
        let usage = |e: rustix::io::Errno| StorageError::Usage(e.into());
        let stat = fstatvfs(&chosen.layout.volumes).map_err(usage)?;
        let free = stat.f_bavail * stat.f_frsize;
        let seen = |pool: &Pool| pool.seen(self.store.promised());
        let growable = chosen.backend.pool().map(seen);
        let growable = growable.transpose().map_err(StorageError::Usage)?;
        Ok(Facts {
            tier: self.tier(),
            disk_quota: chosen.backend.disk_quota(),
            constant_time_fork: self.tier() == Tier::Btrfs,
            path: chosen.layout.root.clone(),
            total_bytes: stat.f_blocks * stat.f_frsize,
            free_bytes: free + growable.map_or(0, Seen::growable),
            why_not_better: chosen.why_not_better.clone(),
        })
    }

    /// Makes an empty volume that may hold `limit_bytes`, owned by `owner` (user, group).
    pub fn create(
        &self,
        id: SandboxId,
        limit_bytes: u64,
        owner: (u32, u32),
    ) -> Result<Volume, StorageError> {
        let chosen = self.chosen()?;
        self.stage(&chosen, id, limit_bytes, owner, |name| {
            let make = || {
                let volume = chosen.backend.make(&chosen.layout.staging, name)?;
                make_folder(&volume, "upper", owner)?;
                Ok(volume)
            };
            make().map_err(|source| StorageError::Create { id, source })
        })
    }

    /// Makes a volume with what `parent` holds at this instant and an empty work folder.
    ///
    /// Consistent if nothing writes to `parent` meanwhile: freeze it. `limit_bytes` and `owner` are the child's; files keep their owners. Where
    /// [`Facts::disk_quota`] holds, the limit bounds what the child writes itself, and twice the limit that and what it shares with its parent.
    pub fn fork(
        &self,
        parent: SandboxId,
        child: SandboxId,
        limit_bytes: u64,
        owner: (u32, u32),
    ) -> Result<Volume, StorageError> {
        let failed = |source| StorageError::Fork { parent, source };
        let chosen = self.chosen()?;
        let source = chosen
            .layout
            .open_volume(parent)
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => StorageError::Missing(parent),
                _ => failed(e),
            })?;
        self.stage(&chosen, child, limit_bytes, owner, |name| {
            let copy = || {
                let volume = chosen.backend.copy(&source, &chosen.layout.staging, name)?;
                chosen.backend.count_on(&source, &volume)?;
                match fs::remove_dir_all(chosen.layout.staged(child).join("work")) {
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
        let chosen = self.chosen()?;
        let settle = || Ok(rustix::fs::syncfs(chosen.layout.open_volume(id)?)?);
        settle().map_err(|source| StorageError::Settle { id, source })
    }

    /// A folder for a driver's own files, made if it is missing, on the file system that holds the volumes: copies may share blocks.
    pub fn own_folder(&self, name: &str) -> Result<PathBuf, StorageError> {
        let path = self.chosen()?.layout.root.join(name);
        layout::folder(&path).map(|_| path)
    }

    /// The same on the disk of the data folder itself. Where the volumes are in a pool on it, large files are written here in a fraction of the time.
    /// Have [`Storage::room`] for them first.
    pub fn folder_beside(&self, name: &str) -> Result<PathBuf, StorageError> {
        let path = self.store.data_dir.join(name);
        layout::folder(&path).map(|_| path)
    }

    /// The volume of `id`, if it has one.
    pub fn get(&self, id: SandboxId) -> Option<Volume> {
        let chosen = self.chosen().ok()?;
        let found = chosen.layout.open_volume(id).is_ok();
        found.then(|| chosen.layout.volume(id))
    }

    /// Takes a volume away; nothing happens if there is none. The space comes back in the background.
    pub fn destroy(&self, id: SandboxId) -> Result<(), StorageError> {
        let chosen = self.chosen()?;
        let Chosen {
            backend, layout, ..
        } = &*chosen;
        backend.pool().map_or(Ok(()), Pool::must_be_open)?;
        backend
            .remove(&layout.volumes, id.label().as_ref(), layout)
            .map_err(|source| StorageError::Destroy { id, source })
    }

    /// All volumes, for the sweep of those without a sandbox.
    pub fn list(&self) -> Result<Vec<SandboxId>, StorageError> {
        self.chosen()?.layout.ids().map_err(StorageError::List)
    }

    /// The bytes that a volume takes: what it wrote itself as of the last second where the file system counts, else the sum over its files.
    pub fn usage(&self, id: SandboxId) -> Result<u64, StorageError> {
        let chosen = self.chosen()?;
        let volume = chosen.layout.open_volume(id).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::Missing(id),
            _ => StorageError::Usage(e),
        })?;
        let counted = chosen.backend.counted(&volume);
        match counted.map_err(StorageError::Usage)? {
            Some(bytes) => Ok(bytes),
            None => walk::disk_bytes(&volume).map_err(StorageError::Usage),
        }
    }

    /// Fails if the store has lost data, cannot be written any more or has no room for a volume, and says what to do.
    pub fn check(&self) -> Result<(), StorageError> {
        let chosen = self.chosen()?;
        chosen.backend.pool().map_or(Ok(()), Pool::check)?;
        self.keep_reserve(&chosen)
    }

    fn chosen(&self) -> Result<MappedRwLockReadGuard<'_, Chosen>, StorageError> {
        let chosen = self.store.chosen.read();
        RwLockReadGuard::try_map(chosen, Option::as_ref).map_err(|_| StorageError::PoolClosed {
            path: image::path(&self.store.data_dir),
        })
    }

    /// Fills a folder in `staging/` by `fill`, then dresses, limits and publishes it; removes it if a step fails.
    fn stage(
        &self,
        chosen: &Chosen,
        id: SandboxId,
        limit_bytes: u64,
        owner: (u32, u32),
        fill: impl FnOnce(&str) -> Result<File, StorageError>,
    ) -> Result<Volume, StorageError> {
        let Chosen {
            backend, layout, ..
        } = chosen;
        if layout.open_volume(id).is_ok() {
            return Err(StorageError::Exists(id));
        }
        self.keep_reserve(chosen)?;
        let name = id.label();
        let staged = fill(&name).and_then(|volume| {
            let limit = |source| StorageError::Limit { id, source };
            backend.limit(&volume, limit_bytes).map_err(limit)?;
            let finish = || {
                make_folder(&volume, "work", owner)?;
                dress(&volume, owner)?;
                layout.publish(id)
            };
            finish().map_err(|source| StorageError::Create { id, source })
        });
        if staged.is_err() {
            drop(backend.remove(&layout.staging, name.as_ref(), layout));
        }
        staged
    }

    /// Neither the disk nor the pool on it is so full that those who run would miss what a new volume takes.
    fn keep_reserve(&self, chosen: &Chosen) -> Result<(), StorageError> {
        let free = free_bytes(&self.store.data)?;
        must_have(free.saturating_sub(self.store.promised()), RESERVE_BYTES)?;
        let Some(pool) = chosen.backend.pool() else {
            return Ok(());
        };
        pool.must_be_open()?;
        let free = || free_bytes(&chosen.layout.volumes);
        if free()? < POOL_RESERVE_BYTES {
            pool.fit(self.store.promised())?;
        }
        must_have(free()?, POOL_RESERVE_BYTES)
    }
}

fn must_have(free_bytes: u64, needed_bytes: u64) -> Result<(), StorageError> {
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    Err(StorageError::DiskFull {
        free_bytes,
        needed_bytes,
    })
}

/// Free bytes on the disk that holds `folder`.
fn free_bytes(folder: &File) -> Result<u64, StorageError> {
    let stat = fstatvfs(folder).map_err(|e| StorageError::Usage(e.into()))?;
    Ok(stat.f_bavail * stat.f_frsize)
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
