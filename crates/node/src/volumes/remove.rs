//! Removing what is in a volume.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;
use skerry_types::{Error, ErrorCode, Result};

use super::content::{Content, plain, refuse};
use super::list::names;

/// Folders within folders; each level holds an open file and a stack frame.
const MAX_DEPTH: usize = 128;

/// Removes a file, or a folder with all in it.
pub(crate) fn remove(content: &Content, path: &str) -> Result<()> {
    let path = plain(path)?;
    let (folder, name) = content.parent(&path, false)?;
    entry(&folder, name, &path, 0)
}

fn entry(folder: &OwnedFd, name: &OsStr, path: &Path, depth: usize) -> Result<()> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refuse(path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return unlinkat(folder, name, AtFlags::empty()).map_err(refuse(path));
    }
    if depth == MAX_DEPTH {
        let text = format!("folders are nested more than {MAX_DEPTH} deep");
        return Err(Error::new(ErrorCode::TooLarge, text)
            .with_hint("remove them from a sandbox that has the volume"));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = openat(folder, name, flags, Mode::empty()).map_err(refuse(path))?;
    for name in names(&inner, path)? {
        match entry(&inner, &name, &path.join(&name), depth + 1) {
            // A program inside was faster.
            Err(error) if error.code == ErrorCode::NotFound => {}
            done => done?,
        }
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY) => Err(Error::conflict(format!(
            "{} was written to while it was removed",
            path.display()
        ))),
        done => done.map_err(refuse(path)),
    }
}
