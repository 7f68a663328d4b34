//! What the tiers do differently: make, fork, limit, measure and remove one folder.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Mode, mkdirat};
use skerry_sys::btrfs;

use crate::layout::{Layout, open_folder};
use crate::pool::Pool;
use crate::reaper::{self, Reaper};
use crate::tier::Tier;
use crate::walk::{Bytes, copy_tree};

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

    /// Bounds what `volume` may write; does nothing where limits do not bind, as the facts say.
    pub(crate) fn limit(&self, volume: &File, bytes: u64) -> io::Result<()> {
        if !self.disk_quota() {
            return Ok(());
        }
        let id = btrfs::subvolume_id(volume.as_fd())?;
        btrfs::limit_subvolume(volume.as_fd(), id, bytes)
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
