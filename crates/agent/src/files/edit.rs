//! Directories made, names changed, owners set.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, open, openat};
use rustix::io::Errno;

use crate::files::error::{Doing, FileError};
use crate::users::User;

const DEFAULT_DIR_MODE: u32 = 0o755;
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Makes a directory and its parents, and returns it. What is there stays as it is.
pub(super) fn make_dir(path: &Path, mode: u32, user: &User) -> Result<OwnedFd, FileError> {
    let mut missing = Vec::new();
    let mut there = path;
    let mut place = loop {
        match open(there, PLACE, Mode::empty()) {
            Err(Errno::NOENT) => {}
            opened => break opened.doing("make", path)?,
        }
        // A name is missing before a `..`: there is nothing to go up from.
        let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
            return Err(Errno::NOENT).doing("make", path);
        };
        missing.push(name);
        there = parent;
    };
    while let Some(name) = missing.pop() {
        let mode = if missing.is_empty() { mode } else { 0 };
        place = make_one(&place, name, mode, user).doing("make", path)?;
    }
    Ok(place)
}

/// Each is made in what was opened before, and no link is followed: a program that swaps one of them meanwhile gets nothing elsewhere.
fn make_one(parent: &OwnedFd, name: &OsStr, mode: u32, user: &User) -> rustix::io::Result<OwnedFd> {
    let mode = if mode == 0 {
        DEFAULT_DIR_MODE
    } else {
        mode & 0o7777
    };
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(Errno::EXIST) => return openat(parent, name, PLACE | OFlags::NOFOLLOW, Mode::empty()),
        Err(error) => return Err(error),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    give(&made, user)?;
    fchmod(&made, Mode::from_raw_mode(mode))?;
    Ok(made)
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
