//! What the tiers do differently: make, fork, limit, measure and remove one folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Mode, XattrFlags, fgetxattr, fsetxattr, mkdirat};
use rustix::io::Errno;
use skerry_sys::btrfs;

use crate::layout::{Layout, open_folder};
use crate::pool::Pool;
use crate::reaper::{self, Reaper};
use crate::tier::Tier;
use crate::walk::{Bytes, copy_tree, disk_bytes};

/// On a volume: the bytes that it began with, which are counted for those that wrote them.
const BEGAN_WITH: &str = "user.skerry.began_with";
/// For the system's own files in a copy of one that is full.
const LEAST_BYTES: u64 = 4 << 20;

/// The rung in use.
#[derive(Debug)]
pub(crate) enum Backend {
    /// Each volume is a subvolume.
    Subvolumes {
        /// Limits bind.
        quota: bool,
        /// The pool they live in; none where the data folder itself is on btrfs.
        pool: Option<Pool>,
    },
    /// Each volume is a folder.
    Folders {
        /// How a fork gets its bytes.
        bytes: Bytes,
        /// Removes what was destroyed.
        reaper: Reaper,
    },
}

impl Backend {
    pub(crate) fn tier(&self) -> Tier {
        match self {
            Self::Subvolumes { .. } => Tier::Btrfs,
            Self::Folders {
                bytes: Bytes::Share,
                ..
            } => Tier::Reflink,
            Self::Folders {
                bytes: Bytes::Copy, ..
            } => Tier::Copy,
        }
    }

    pub(crate) fn disk_quota(&self) -> bool {
        matches!(self, Self::Subvolumes { quota: true, .. })
    }

    pub(crate) fn pool(&self) -> Option<&Pool> {
        match self {
            Self::Subvolumes { pool, .. } => pool.as_ref(),
            Self::Folders { .. } => None,
        }
    }

    /// A new empty `name` in `parent`.
    pub(crate) fn make(&self, parent: &File, name: &str) -> io::Result<File> {
        match self {
            Self::Subvolumes { .. } => btrfs::create_subvolume(parent.as_fd(), OsStr::new(name))?,
            Self::Folders { .. } => mkdirat(parent, name, Mode::RWXU)?,
        }
        open_folder(parent, name)
    }

    /// A new `name` in `parent` with all that is in the `upper` of `source`; what else is in it is for the caller to remove.
    pub(crate) fn copy(&self, source: &File, parent: &File, name: &str) -> io::Result<File> {
        match self {
            Self::Subvolumes { .. } => {
                btrfs::snapshot(source.as_fd(), parent.as_fd(), OsStr::new(name))?;
                open_folder(parent, name)
            }
            Self::Folders { bytes, .. } => {
                let copy = self.make(parent, name)?;
                mkdirat(&copy, "upper", Mode::RWXU)?;
                copy_tree(
                    &open_folder(source, "upper")?,
                    &open_folder(&copy, "upper")?,
                    *bytes,
                )?;
                Ok(copy)
            }
        }
    }

    /// Bounds what `volume` may write to `bytes`, and that with what it began with to twice as many; does nothing where limits do not bind, as the
    /// facts say.
    pub(crate) fn limit(&self, volume: &File, bytes: u64) -> io::Result<()> {
        if !self.disk_quota() {
            return Ok(());
        }
        let mut began_with = began_with(volume)?;
        if began_with > bytes {
            // Much of it may be gone.
            began_with = disk_bytes(volume)?;
            note_beginning(volume, began_with)?;
        }
        let too_many = began_with.saturating_sub(bytes);
        let own = bytes.saturating_sub(too_many).max(LEAST_BYTES);
        let id = btrfs::subvolume_id(volume.as_fd())?;
        btrfs::limit_subvolume(volume.as_fd(), id, own)
    }

    /// Notes that `copy` begins with all that `source` has.
    pub(crate) fn count_on(&self, source: &File, copy: &File) -> io::Result<()> {
        match self.counted(source)? {
            Some(own) => note_beginning(copy, began_with(source)? + own),
            None => Ok(()),
        }
    }

    /// The bytes that `volume` has written, if the file system counts them.
    pub(crate) fn counted(&self, volume: &File) -> io::Result<Option<u64>> {
        if !self.disk_quota() {
            return Ok(None);
        }
        let id = btrfs::subvolume_id(volume.as_fd())?;
        btrfs::subvolume_bytes(volume.as_fd(), id)
    }

    /// Takes `name` out of `parent` at once; its blocks come back in the background. Nothing there is as good.
    pub(crate) fn remove(&self, parent: &File, name: &OsStr, layout: &Layout) -> io::Result<()> {
        let removed = match self {
            Self::Subvolumes { .. } => btrfs::delete_subvolume(parent.as_fd(), name),
            Self::Folders { reaper, .. } => {
                reaper::bin(parent, name, &layout.trash).map(|()| reaper.wake())
            }
        };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn began_with(volume: &File) -> io::Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    match fgetxattr(volume, BEGAN_WITH, &mut bytes) {
        Ok(_) => Ok(u64::from_le_bytes(bytes)),
        Err(Errno::NODATA) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn note_beginning(volume: &File, bytes: u64) -> io::Result<()> {
    let bytes = bytes.to_le_bytes();
    Ok(fsetxattr(volume, BEGAN_WITH, &bytes, XattrFlags::empty())?)
}
