//! Directories made, names changed, owners set.

use std::fs;
use std::ops::Not;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, open, openat};
use rustix::io::Errno;

use crate::files::error::{Doing, FileError};
use crate::users::User;

const DEFAULT_DIR_MODE: u32 = 0o755;

/// Makes a directory and its parents. What is there stays as it is.
pub(super) fn make_dir(path: &Path, mode: u32, user: &User) -> Result<(), FileError> {
    let is_missing = |path: &&Path| fs::metadata(path).is_ok_and(|found| found.is_dir()).not();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    for folder in missing.into_iter().rev() {
        let mode = if folder == path { mode } else { 0 };
        make_one(folder, mode, user)?;
    }
    Ok(())
}

/// Its parent is found once: a program that swaps a directory for a link meanwhile must not have anything else given to it.
fn make_one(path: &Path, mode: u32, user: &User) -> Result<(), FileError> {
    let mode = if mode == 0 {
        DEFAULT_DIR_MODE
    } else {
        mode & 0o7777
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        // `..` and the root are there by now.
        return Ok(());
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = open(parent, flags | OFlags::PATH, Mode::empty()).doing("make", path)?;
    match mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(Errno::EXIST) if path.is_dir() => return Ok(()),
        Err(error) => return Err(error).doing("make", path),
    }
    let made = openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty());
    let made = made.doing("make", path)?;
    give(&made, user).doing("give away", path)?;
    fchmod(&made, Mode::from_raw_mode(mode)).doing("make", path)
}

/// Makes `user` the owner, where that is a change.
fn give(folder: &OwnedFd, user: &User) -> rustix::io::Result<()> {
    let found = fstat(folder)?;
    if (found.st_uid, found.st_gid) == (user.uid, user.gid) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    fchown(folder, Some(uid), Some(gid))
}

/// Renames, replacing a file that is in the way.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).doing("move", from)
}
