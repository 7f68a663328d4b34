//! Choosing the rung: the best that this machine, this user and this disk allow.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ioctl_ficlone, openat, unlinkat};
use skerry_sys::btrfs;

use crate::Options;
use crate::backend::Backend;
use crate::error::StorageError;
use crate::layout::{self, Layout};
use crate::pool::{self, Pool, is_btrfs, quota_is_on};
use crate::reaper::Reaper;
use crate::tier::Tier;
use crate::walk::Bytes;

/// Where a trial file or subvolume is made; rubbish in `staging/` if a crash leaves it.
const TRIAL: &str = "trial";
const TRIAL_SOURCE: &str = "trial-source";

/// The rung, its folders, and why it is not a better one.
#[derive(Debug)]
pub(crate) struct Chosen {
    // Before the backend, whose unmount comes last.
    pub(crate) layout: Layout,
    pub(crate) backend: Backend,
    pub(crate) why_not_better: Option<String>,
}

impl Chosen {
    /// Removes half-made volumes of a process that died. Nobody may be making one.
    pub(crate) fn clear_staging(&self) {
        let staging = &self.layout.staging;
        for name in layout::names(staging).unwrap_or_default() {
            if let Err(e) = self.backend.remove(staging, &name, &self.layout) {
                tracing::warn!(error = %e, ?name, "cannot remove a half-made volume");
            }
        }
    }
}

/// Climbs down from `options.prefer`. A pool that is there and broken is an error, not a reason to climb down: sandboxes are in it.
pub(crate) fn choose(data: &Path, options: &Options) -> Result<Chosen, StorageError> {
    let prefer = options.prefer.unwrap_or(Tier::Btrfs);
    let mut why = match options.prefer {
        Some(tier) if tier > Tier::Btrfs => format!("{} was asked for", tier.as_str()),
        _ => String::new(),
    };
    if prefer <= Tier::Btrfs {
        match subvolumes(data, options)? {
            Ok(chosen) => return Ok(chosen),
            Err(obstacle) => why = obstacle,
        }
    }
    let layout = Layout::open(data)?;
    let bytes = if prefer <= Tier::Reflink && shares_blocks(&layout.staging) {
        Bytes::Share
    } else {
        if prefer <= Tier::Reflink {
            why.push_str("; this file system cannot share blocks between files");
        }
        Bytes::Copy
    };
    let reaper = layout.trash.try_clone().and_then(Reaper::start);
    let reaper = reaper.map_err(|source| StorageError::Folder {
        path: data.join("trash"),
        source,
    })?;
    Ok(Chosen {
        backend: Backend::Folders { bytes, reaper },
        layout,
        why_not_better: Some(why),
    })
}

/// Subvolumes in the data folder itself or in a pool; or the obstacle.
fn subvolumes(data: &Path, options: &Options) -> Result<Result<Chosen, String>, StorageError> {
    let root = rustix::process::geteuid().is_root();
    if root && is_btrfs(data) {
        let layout = Layout::open(data)?;
        if makes_subvolumes(&layout.staging) {
            // Whether this file system counts is its owner's choice: turning it on would change more than our folder.
            let quota = quota_is_on(&layout.staging);
            let backend = Backend::Subvolumes { quota, pool: None };
            return Ok(Ok(Chosen {
                backend,
                layout,
                why_not_better: None,
            }));
        }
    }
    if let Some(obstacle) = pool::obstacle(data) {
        return Ok(Err(obstacle));
    }
    let pool = Pool::open(data, options.max_bytes.unwrap_or(u64::MAX))?;
    let layout = Layout::open(pool.mount())?;
    let backend = Backend::Subvolumes {
        quota: pool.enable_quota(),
        pool: Some(pool),
    };
    Ok(Ok(Chosen {
        backend,
        layout,
        why_not_better: None,
    }))
}

fn makes_subvolumes(staging: &File) -> bool {
    let name = OsStr::new(TRIAL);
    let made = btrfs::create_subvolume(staging.as_fd(), name);
    let deleted = btrfs::delete_subvolume(staging.as_fd(), name);
    made.and(deleted).is_ok()
}

fn shares_blocks(staging: &File) -> bool {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let open = |name| openat(staging, name, flags, Mode::RUSR | Mode::WUSR).map(File::from);
    let share = || -> io::Result<()> {
        let (source, target) = (open(TRIAL_SOURCE)?, open(TRIAL)?);
        io::Write::write_all(&mut &source, &[1; 4096])?;
        Ok(ioctl_ficlone(&target, &source)?)
    };
    let shared = share().is_ok();
    for name in [TRIAL_SOURCE, TRIAL] {
        let _ = unlinkat(staging, name, AtFlags::empty());
    }
    shared
}
