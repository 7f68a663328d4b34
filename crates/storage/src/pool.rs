//! The pool: a btrfs in one sparse file, for data folders on another file system.
//!
//! The mount lives in this process's mount namespace and the loop device clears itself: both go when the last process that uses the pool goes. Sandboxes
//! keep them across a restart of the daemon, so opening looks for the device first; two devices on one file would destroy it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{StatVfsMountFlags, fstatvfs, statfs, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use skerry_sys::btrfs::{self, QuotaMode};
use skerry_sys::loopdev::{self, LoopDevice};

use crate::error::StorageError;
use crate::layout::folder;

const BTRFS_MAGIC: rustix::fs::FsWord = 0x9123_683E;
const MIN_BYTES: u64 = 256 << 20;
/// A sparse file costs nothing; below this the pool would be full at once.
const COMFORTABLE_BYTES: u64 = 1 << 30;
/// Growing by less is not worth a transaction.
const GROW_STEP_BYTES: u64 = 64 << 20;
/// At most this much is unwritten at any time: a snapshot has to write it out first, and 64 MiB keep that under about 30 ms.
const MAX_DIRTY_BYTES: u64 = 64 << 20;
/// `commit`: seconds until new metadata is written, which a snapshot would have to wait for. `discard`: deleted blocks go back to the disk below.
const MOUNT_OPTIONS: &std::ffi::CStr = c"discard=async,commit=1";

/// The mounted pool; dropping it takes the mount out of this namespace.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    mount: PathBuf,
    /// An open file on the pool would keep it busy, so these go after the unmount, which is lazy.
    root: File,
    image: File,
    device: LoopDevice,
    max_bytes: Option<u64>,
}

/// Why this process cannot have a pool; `None` if it can.
pub(crate) fn obstacle(data: &Path) -> Option<String> {
    let kernel_has_btrfs = || {
        let list = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        list.split_whitespace().any(|word| word == "btrfs")
            || Path::new("/sys/module/btrfs").exists()
    };
    if !rustix::process::geteuid().is_root() {
        Some("a btrfs pool needs root".into())
    } else if !kernel_has_btrfs() {
        Some("this kernel has no btrfs".into())
    } else if !loopdev::available() {
        Some("no loop devices here".into())
    } else if !image_path(data).exists() && mkfs().is_none() {
        Some("mkfs.btrfs is not installed (package btrfs-progs)".into())
    } else {
        None
    }
}

impl Pool {
    /// Makes the pool in `data` unless it is there, attaches, mounts and checks it. The caller holds the lock of `data`.
    pub(crate) fn open(data: &Path, max_bytes: Option<u64>) -> Result<Self, StorageError> {
        let path = image_path(data);
        if !path.exists() {
            make_image(data, max_bytes)?;
        }
        let image = OpenOptions::new().read(true).write(true).open(&path);
        let attach = |source| StorageError::Attach {
            path: path.clone(),
            source,
        };
        let image = image.map_err(attach)?;
        let device = LoopDevice::attach(&image).map_err(attach)?;
        let mount = data.join("pool");
        drop(folder(&mount)?);
        mount_at(&device, &mount, &path)?;
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
            max_bytes,
        };
        pool.check()?;
        pool.bound_dirty();
        if let Err(e) = pool.grow() {
            tracing::warn!(error = %e, "the pool stays as large as it is");
        }
        Ok(pool)
    }

    /// The folder where the pool is mounted.
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// Turns quotas on; false where this kernel has none.
    pub(crate) fn enable_quota(&self) -> bool {
        [QuotaMode::Simple, QuotaMode::Classic]
            .into_iter()
            .any(|mode| {
                let enabled = btrfs::enable_quota(self.root.as_fd(), mode);
                enabled.is_ok_and(|()| quota_is_on(&self.root))
            })
    }

    /// Fails if the pool has lost data or the kernel has made it read-only.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        let inspect = |source| StorageError::Inspect {
            path: self.path.clone(),
            source,
        };
        let errors = btrfs::device_errors(self.root.as_fd()).map_err(inspect)?;
        if errors.corruption > 0 || errors.generation > 0 {
            return Err(StorageError::PoolDamaged {
                path: self.path.clone(),
                errors,
            });
        }
        if errors.write + errors.read + errors.flush > 0 {
            tracing::warn!(?errors, "the disk below the pool has failed before");
        }
        let stat = fstatvfs(&self.root).map_err(|e| inspect(e.into()))?;
        if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(StorageError::PoolBroken {
                path: self.path.clone(),
                source: Errno::ROFS.into(),
            });
        }
        Ok(())
    }

    /// Takes over what the disk has gained. Returns the size of the pool in bytes.
    pub(crate) fn grow(&self) -> Result<u64, StorageError> {
        let grow = |source| StorageError::Grow {
            path: self.path.clone(),
            source,
        };
        let stat = self.image.metadata().map_err(grow)?;
        let disk = fstatvfs(&self.image).map_err(|e| grow(e.into()))?;
        let room = disk.f_bavail * disk.f_frsize + stat.blocks() * 512;
        let target = logical_size(room, self.max_bytes);
        if target >= stat.len() + GROW_STEP_BYTES {
            self.image.set_len(target).map_err(grow)?;
        }
        // Also after a crash between the steps: each takes over what the one before it left.
        self.device.refresh_size().map_err(grow)?;
        btrfs::grow_to_device(self.root.as_fd()).map_err(grow)?;
        Ok(stat.len().max(target))
    }

    /// Keeps the unwritten bytes few, best effort: without it all works, but a fork right after a large write waits for the disk.
    fn bound_dirty(&self) {
        let bound = || -> io::Result<()> {
            let bdi = Path::new("/sys/fs/btrfs")
                .join(btrfs::fsid(self.root.as_fd())?)
                .join("bdi");
            fs::write(bdi.join("strict_limit"), "1")?;
            fs::write(bdi.join("max_bytes"), MAX_DIRTY_BYTES.to_string())
        };
        if let Err(e) = bound() {
            tracing::info!(error = %e, "forks wait for large unwritten files: their amount cannot be bounded here");
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

fn image_path(data: &Path) -> PathBuf {
    data.join("pool.img")
}

/// Nine tenths of what the disk could give, within bounds, in whole steps.
fn logical_size(room: u64, max_bytes: Option<u64>) -> u64 {
    let wanted = (room / 10 * 9).max(COMFORTABLE_BYTES);
    let bounded = wanted.min(max_bytes.unwrap_or(u64::MAX)).max(MIN_BYTES);
    bounded / GROW_STEP_BYTES * GROW_STEP_BYTES
}

/// Formats a file under another name first: what is called `pool.img` has always been whole.
fn make_image(data: &Path, max_bytes: Option<u64>) -> Result<(), StorageError> {
    let new = data.join("pool.img.new");
    let make = || {
        let options = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new);
        let disk = statvfs(data)?;
        let file = options?;
        file.set_len(logical_size(disk.f_bavail * disk.f_frsize, max_bytes))?;
        Ok(file)
    };
    let failed = |source| StorageError::PoolFile {
        path: new.clone(),
        source,
    };
    let file = make().map_err(failed)?;
    format(&new)?;
    let publish = || {
        file.sync_all()?;
        fs::rename(&new, image_path(data))?;
        File::open(data)?.sync_all()
    };
    publish().map_err(failed)
}

fn format(image: &Path) -> Result<(), StorageError> {
    let failed = |output: String| StorageError::Format {
        path: image.to_owned(),
        output,
    };
    let tool = mkfs().ok_or_else(|| failed("not installed".into()))?;
    // One copy of the metadata: the pool holds what is disposable, and a second copy doubles each write.
    let output = Command::new(tool)
        .args([
            "--quiet",
            "--force",
            "--nodiscard",
            "--metadata",
            "single",
            "--label",
            "skerry",
        ])
        .arg(image)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// Where mkfs.btrfs is; the folders for system tools are not on every user's path.
fn mkfs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(system);
    folders.find_map(|folder| Some(folder.join("mkfs.btrfs")).filter(|tool| tool.is_file()))
}

/// Mounts the device, unless it is mounted there already.
fn mount_at(device: &LoopDevice, at: &Path, image: &Path) -> Result<(), StorageError> {
    let broken = |source: io::Error| StorageError::PoolBroken {
        path: image.to_owned(),
        source,
    };
    // `nosuid` is not for the pool to say: each sandbox's own mount decides.
    let flags = MountFlags::NOATIME | MountFlags::NODEV;
    match mount(device.path(), at, "btrfs", flags, MOUNT_OPTIONS) {
        // An earlier process died in this mount namespace and left it.
        Err(Errno::BUSY) if is_btrfs(at) => Ok(()),
        other => other.map_err(|e| broken(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_follows_the_disk_within_bounds() {
        const GIB: u64 = 1 << 30;
        assert_eq!(logical_size(100 * GIB, None), 90 * GIB);
        assert_eq!(logical_size(100 * GIB, Some(2 * GIB)), 2 * GIB);
        assert_eq!(
            logical_size(0, None),
            GIB,
            "sparse: a full disk may get emptier"
        );
        assert_eq!(logical_size(100 * GIB, Some(1)), MIN_BYTES);
    }
}
