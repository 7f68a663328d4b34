//! The pool's file: made, formatted, and every byte of it taken from the disk before the file system sees it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs, statvfs};
use rustix::io::Errno;

use crate::error::StorageError;
use crate::size::{RESERVE_BYTES, Seen};

/// Where the pool of a data folder is.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("pool.img")
}

/// Formats a file under another name first: what is called `pool.img` has always been whole.
pub(crate) fn make(data: &Path, max: u64) -> Result<(), StorageError> {
    let new = data.join("pool.img.new");
    let failed = |source| StorageError::PoolFile {
        path: new.clone(),
        source,
    };
    let file = make_file(&new, data, max).map_err(failed)?;
    format(&new)?;
    let publish = || {
        file.sync_all()?;
        fs::rename(&new, path(data))?;
        File::open(data)?.sync_all()
    };
    publish().map_err(failed)
}

fn make_file(new: &Path, data: &Path, max: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(new)?;
    let disk = statvfs(data)?;
    let empty = Seen {
        total: 0,
        in_chunks: 0,
        disk_free: disk.f_bavail * disk.f_frsize,
        max,
    };
    let done = back(&file, empty.wanted());
    if done.is_err() {
        let _ = fs::remove_file(new);
    }
    done.map(|()| file)
}

/// Makes the file at least this long, with a block of the disk for every byte. On error it is as long as it was.
///
/// Where the disk's file system cannot promise blocks, the file gets holes, and a disk that others fill can still break the pool.
pub(crate) fn back(file: &File, bytes: u64) -> io::Result<()> {
    let before = file.metadata()?;
    let missing = bytes.saturating_sub(before.blocks() * 512);
    let disk = fstatvfs(file)?;
    // Asked for more than there is, some file systems take all there is first.
    if missing > (disk.f_bavail * disk.f_frsize).saturating_sub(RESERVE_BYTES) && missing > 0 {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let before = before.len();
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                tracing::warn!(
                    "the disk below the pool cannot promise blocks: keep some of it free"
                );
                return file.set_len(before.max(bytes));
            }
            Err(error) => {
                file.set_len(before)?;
                return Err(error.into());
            }
            Ok(()) => return Ok(()),
        }
    }
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
pub(crate) fn mkfs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(system);
    folders.find_map(|folder| Some(folder.join("mkfs.btrfs")).filter(|tool| tool.is_file()))
}
