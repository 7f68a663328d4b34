//! Removing a tree that its owners made as deep and odd as they liked, with a handful of descriptors and no recursion.

use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::files::error::{Doing, FileError};

/// After so many rounds somebody fills it faster than we empty it.
const MAX_ROUNDS: usize = 100_000;

/// Removes a file, a link, or a directory with all in it.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        // The root, or a way that ends with `..`.
        let whole = fs::canonicalize(path).doing("remove", path)?;
        return match whole.file_name() {
            Some(_) => remove(&whole),
            None => Err(FileError::Root),
        };
    };
    // Found once: what a program puts in its place meanwhile stays.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty()).doing("remove", path)?;
    remove_in(&parent, name).doing("remove", path)
}

fn remove_in(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return done,
    }
    empty(&open(parent, name)?)?;
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn open(parent: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Empties a directory: each directory in it gives up its own directories to it, until there are none.
fn empty(top: &OwnedFd) -> rustix::io::Result<()> {
    let mut moved = 0_u64;
    for _ in 0..MAX_ROUNDS {
        let mut any = false;
        for name in names(top)? {
            any = true;
            if is_removed(top, &name)? {
                continue;
            }
            let folder = match open(top, &*name) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            flatten(&folder, top, &mut moved)?;
            is_removed(top, &name)?;
        }
        if !any {
            return Ok(());
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Removes a folder's files and moves its folders up to `top`.
fn flatten(folder: &OwnedFd, top: &OwnedFd, moved: &mut u64) -> rustix::io::Result<()> {
    for name in names(folder)? {
        if is_removed(folder, &name)? {
            continue;
        }
        loop {
            *moved += 1;
            let free = format!(".skerry-remove-{moved}");
            match renameat(folder, &*name, top, &free) {
                Ok(()) | Err(Errno::NOENT) => break,
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Removes a file or an empty folder. False for a folder that has something in it.
fn is_removed(parent: &OwnedFd, name: &CStr) -> rustix::io::Result<bool> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Some of the names in a directory; none once it is empty.
fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<std::ffi::CString>> {
    const AT_ONCE: usize = 1024;
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if names.len() == AT_ONCE {
            break;
        }
    }
    Ok(names)
}
