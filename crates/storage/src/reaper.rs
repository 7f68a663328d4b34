//! Removing folder trees in the background: whatever is in `trash/` goes, however deep, with a few open files and no recursion.
//!
//! A folder inside another is moved up into the trash before its parent is removed. So the depth that a sandbox made costs nothing, and what is left
//! after a crash is ordinary trash.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, chmodat, openat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::layout::names;

/// Numbers the folders in the trash; names left by an earlier process are stepped over.
static NEXT_NAME: AtomicU64 = AtomicU64::new(0);

/// The thread that empties the trash; dropping it ends the thread after the file it is at.
#[derive(Debug)]
pub(crate) struct Reaper {
    wake: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    /// Starts with whatever an earlier process left.
    pub(crate) fn start(trash: File) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("storage-reaper".into())
            .spawn(move || {
                empty(&trash, &stopped);
                while woken.recv().is_ok() {
                    empty(&trash, &stopped);
                }
            })?;
        Ok(Self {
            wake: Some(wake),
            stop,
            thread: Some(thread),
        })
    }

    /// Something is in the trash. A wake-up that waits already stands for this one too.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Moves `name` from `parent` into the trash, under a name of its own.
pub(crate) fn bin(parent: &File, name: &OsStr, trash: &File) -> io::Result<()> {
    loop {
        let fresh = NEXT_NAME.fetch_add(1, Ordering::Relaxed).to_string();
        match renameat_with(parent, name, trash, &fresh, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // A folder that its owner closed cannot be moved by its owner either.
            Err(Errno::ACCESS) => {
                chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
                return Ok(renameat_with(
                    parent,
                    name,
                    trash,
                    fresh,
                    RenameFlags::NOREPLACE,
                )?);
            }
            other => return Ok(other?),
        }
    }
}

/// Passes over the trash until it is empty, or a whole pass could remove nothing.
fn empty(trash: &File, stop: &AtomicBool) {
    loop {
        let found = names(trash).unwrap_or_else(|e| {
            tracing::warn!(error = %e, "cannot read the trash of the store");
            Vec::new()
        });
        let mut removed = false;
        for name in &found {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match remove(trash, name, trash, stop) {
                Ok(()) => removed = true,
                Err(e) => {
                    tracing::warn!(error = %e, ?name, "cannot remove from the trash of the store");
                }
            }
        }
        if !removed {
            return;
        }
    }
}

/// Removes one entry; folders in it land in the trash for a later turn.
fn remove(parent: &File, name: &OsStr, trash: &File, stop: &AtomicBool) -> io::Result<()> {
    let is_folder = |parent: &File, name: &OsStr| -> io::Result<bool> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    if !is_folder(parent, name)? {
        return Ok(unlinkat(parent, name, AtFlags::empty())?);
    }
    let folder = open_own(parent, name)?;
    for entry in Dir::read_from(&folder)? {
        let entry = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        if entry == "." || entry == ".." {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if is_folder(&folder, &entry)? {
            bin(&folder, &entry, trash)?;
        } else {
            unlinkat(&folder, &entry, AtFlags::empty())?;
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Opens a folder to empty it, whatever mode a sandbox gave it, and makes it ours to move.
fn open_own(parent: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(parent, name, flags, Mode::empty());
    let folder: File = match open() {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()?.into()
        }
        other => other?.into(),
    };
    if !rustix::process::geteuid().is_root() {
        folder.set_permissions(fs::Permissions::from_mode(0o700))?;
    }
    Ok(folder)
}
