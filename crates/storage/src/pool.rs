//! The pool: a btrfs in one file, for data folders on another file system.
//!
//! The mount lives in this process's mount namespace and the loop device clears itself: both go when the last process that uses the pool goes. Sandboxes
//! keep them across a restart of the daemon, so opening looks for the device first; two devices on one file would destroy it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{StatVfsMountFlags, fstatvfs, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use skerry_sys::btrfs::{self, QuotaMode};
use skerry_sys::idmap::Ids;
use skerry_sys::loopdev::{self, LoopDevice};

use crate::error::StorageError;
use crate::image;
use crate::layout::folder;
use crate::size::Seen;

const BTRFS_MAGIC: rustix::fs::FsWord = 0x9123_683E;
/// At most this much is unwritten at any time: a snapshot has to write it out first, and 64 MiB keep that under about 30 ms.
const MAX_DIRTY_BYTES: u64 = 64 << 20;
/// A chunk that is less full than this, in percent, is emptied into others, so that the pool can shrink.
const RECLAIM_BELOW: &str = "30";
/// `commit`: seconds until new metadata is written, which a snapshot would have to wait for. `nodiscard`: a discarded block would be given back to the
/// disk, and might not be there when it is wanted again.
const MOUNT_OPTIONS: &std::ffi::CStr = c"nodiscard,commit=1";

/// The mounted pool; dropping it takes the mount out of this namespace.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    mount: PathBuf,
    /// An open file on the pool would keep it busy, so these go after the unmount, which is lazy.
    root: File,
    image: File,
    device: LoopDevice,
    max: u64,
    /// Held by whoever changes the size.
    sizing: Mutex<()>,
}

/// Why this process cannot have a pool; `None` if it can.
pub(crate) fn obstacle(data: &Path) -> Option<String> {
    let kernel_has_btrfs = || {
        let list = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        list.split_whitespace().any(|word| word == "btrfs")
            || Path::new("/sys/module/btrfs").exists()
    };
    if !matches!(Ids::own(), Ok(Ids::All)) {
        Some("a btrfs pool needs root".into())
    } else if !kernel_has_btrfs() {
        Some("this kernel has no btrfs".into())
    } else if !loopdev::available() {
        Some("no loop devices here".into())
    } else if !image::path(data).exists() && image::mkfs().is_none() {
        Some("mkfs.btrfs is not installed (package btrfs-progs)".into())
    } else {
        None
    }
}

impl Pool {
    /// Makes the pool in `data` unless it is there, attaches, mounts and checks it. The caller holds the lock of `data`.
    ///
    /// A pool that the kernel closed for writing, and that sandboxes still hold, is opened all the same: what is in it can be read.
    pub(crate) fn open(data: &Path, max: u64) -> Result<Self, StorageError> {
        let path = image::path(data);
        if !path.exists() {
            image::make(data, max)?;
        }
        let image = OpenOptions::new().read(true).write(true).open(&path);
        let attach = |source| StorageError::Attach {
            path: path.clone(),
            source,
        };
        let image = image.map_err(attach)?;
        let is_held = LoopDevice::find(&image).map_err(attach)?.is_some();
        let device = LoopDevice::attach(&image).map_err(attach)?;
        let mount = data.join("pool");
        drop(folder(&mount)?);
        mount_at(&device, &mount, is_held).map_err(|source| StorageError::PoolBroken {
            path: path.clone(),
            source: source.into(),
        })?;
        let root = match folder(&mount) {
            Ok(root) => root,
            Err(e) => {
                let _ = unmount(&mount, UnmountFlags::DETACH);
                return Err(e);
            }
        };
        let pool = Self {
            path,
            mount,
            root,
            image,
            device,
            max,
            sizing: Mutex::default(),
        };
        pool.check_data()?;
        pool.tune();
        if let Err(e) = pool.fit(0).and_then(|_| pool.back_all()) {
            tracing::warn!(error = %e, "the pool is not as it should be; a disk that others fill may close it");
        }
        Ok(pool)
    }

    /// The folder where the pool is mounted.
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// Turns quotas on; false where this kernel has none.
    pub(crate) fn enable_quota(&self) -> bool {
        let enable = |mode| btrfs::enable_quota(self.root.as_fd(), mode);
        quota_is_on(&self.root)
            || [QuotaMode::Simple, QuotaMode::Classic]
                .into_iter()
                .any(|mode| enable(mode).is_ok_and(|()| quota_is_on(&self.root)))
    }

    /// Fails if the pool has lost data or the kernel has closed it for writing.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.check_data()?;
        self.must_be_open()
    }

    /// Fails if the kernel takes no more writes, since one of its own failed.
    pub(crate) fn must_be_open(&self) -> Result<(), StorageError> {
        let stat = fstatvfs(&self.root).map_err(|e| self.inspect(e.into()))?;
        if !stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        Err(StorageError::PoolClosed {
            path: self.path.clone(),
        })
    }

    fn check_data(&self) -> Result<(), StorageError> {
        let errors = btrfs::device_errors(self.root.as_fd()).map_err(|e| self.inspect(e))?;
        if errors.corruption > 0 || errors.generation > 0 {
            return Err(StorageError::PoolDamaged {
                path: self.path.clone(),
                errors,
            });
        }
        if errors.write + errors.read + errors.flush > 0 {
            tracing::warn!(?errors, "the disk below the pool has failed before");
        }
        Ok(())
    }

    /// Makes the pool as large as [`Seen::wanted`] says, if nobody else is at it; says whether it did. Shrinking takes as long as moving what is
    /// in the way. `promised` bytes of the disk are somebody else's.
    pub(crate) fn fit(&self, promised: u64) -> Result<bool, StorageError> {
        let Some(_only_one) = self.sizing.try_lock() else {
            return Ok(false);
        };
        let seen = self.seen(promised).map_err(|e| self.inspect(e))?;
        let wanted = seen.wanted();
        let resize = || match wanted {
            _ if wanted > seen.total => {
                image::back(&self.image, wanted)?;
                self.device.refresh_size()?;
                btrfs::resize(self.root.as_fd(), wanted)
            }
            _ if wanted < seen.total => {
                btrfs::resize(self.root.as_fd(), wanted)?;
                self.image.set_len(wanted)?;
                self.device.refresh_size()
            }
            _ => Ok(()),
        };
        let resized = resize().map_err(|source| StorageError::Resize {
            path: self.path.clone(),
            from: seen.total,
            to: wanted,
            source,
        });
        resized.map(|()| wanted != seen.total)
    }

    /// What the size is decided from.
    pub(crate) fn seen(&self, promised: u64) -> io::Result<Seen> {
        let size = btrfs::device_size(self.root.as_fd())?;
        let disk = fstatvfs(&self.image)?;
        Ok(Seen {
            total: size.total,
            in_chunks: size.in_chunks,
            disk_free: (disk.f_bavail * disk.f_frsize).saturating_sub(promised),
            max: self.max,
        })
    }

    /// Takes the blocks of all holes from the disk, which a copy of the file may have.
    fn back_all(&self) -> Result<(), StorageError> {
        let back = || {
            let size = btrfs::device_size(self.root.as_fd())?;
            image::back(&self.image, size.total)
        };
        back().map_err(|source| StorageError::PoolFile {
            path: self.path.clone(),
            source,
        })
    }

    /// Best effort: without it all works, but a fork right after a large write waits for the disk, and less is given back to it.
    fn tune(&self) {
        let tune = || -> io::Result<()> {
            let of_pool = Path::new("/sys/fs/btrfs").join(btrfs::fsid(self.root.as_fd())?);
            let bdi = of_pool.join("bdi");
            fs::write(bdi.join("strict_limit"), "1")?;
            fs::write(bdi.join("max_bytes"), MAX_DIRTY_BYTES.to_string())?;
            let data = of_pool.join("allocation/data");
            fs::write(data.join("bg_reclaim_threshold"), RECLAIM_BELOW)
        };
        if let Err(e) = tune() {
            tracing::info!(error = %e, "the pool cannot be tuned here");
        }
    }

    fn inspect(&self, source: io::Error) -> StorageError {
        StorageError::Inspect {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(e) = unmount(&self.mount, UnmountFlags::DETACH) {
            tracing::warn!(error = %e, path = %self.mount.display(), "cannot unmount the pool");
        }
    }
}

/// True where the kernel counts and limits each subvolume of this file system.
pub(crate) fn quota_is_on(root: &File) -> bool {
    let Ok(fsid) = btrfs::fsid(root.as_fd()) else {
        return false;
    };
    let enabled = Path::new("/sys/fs/btrfs")
        .join(fsid)
        .join("qgroups/enabled");
    fs::read_to_string(enabled).is_ok_and(|text| text.trim() == "1")
}

/// True where `path` lies on btrfs.
pub(crate) fn is_btrfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type == BTRFS_MAGIC)
}

/// Mounts the device, unless it is mounted there already. If others hold it and the kernel has closed it for writing, then for reading.
fn mount_at(device: &LoopDevice, at: &Path, is_held: bool) -> Result<(), Errno> {
    // `nosuid` is not for the pool to say: each sandbox's own mount decides.
    let flags = MountFlags::NOATIME | MountFlags::NODEV;
    let mount = |flags| mount(device.path(), at, "btrfs", flags, MOUNT_OPTIONS);
    match mount(flags) {
        // An earlier process died in this mount namespace and left it.
        Err(Errno::BUSY) if is_btrfs(at) => Ok(()),
        Err(error) if is_held => mount(flags | MountFlags::RDONLY).map_err(|_| error),
        other => other,
    }
}
