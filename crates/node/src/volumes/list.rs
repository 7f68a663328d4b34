//! Listing what is in a volume, a page at a time.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use skerry_proto::node::{FileKind, VolumeEntry};
use skerry_types::{Error, ErrorCode, Result};

use super::content::{Content, own_path, plain, refuse};

/// Names in one folder that are looked at, at most: they are held in memory to be put in order.
pub(super) const MAX_NAMES: usize = 100_000;

/// Entries below `path`, at most `depth` levels of them, by path, after `after`; whether there are more than `limit`.
pub(crate) fn list(
    content: &Content,
    path: &str,
    depth: u32,
    after: &str,
    limit: u32,
) -> Result<(Vec<VolumeEntry>, bool)> {
    let path = plain(path)?;
    let folder = content.find(&path, OFlags::DIRECTORY)?;
    let mut page = Page {
        content,
        after: plain(after)?,
        limit: limit as usize,
        entries: Vec::new(),
        is_over: false,
    };
    page.folder(&folder, &path, depth)?;
    Ok((page.entries, page.is_over))
}

struct Page<'a> {
    content: &'a Content,
    after: PathBuf,
    limit: usize,
    entries: Vec<VolumeEntry>,
    /// There is at least one entry more.
    is_over: bool,
}

impl Page<'_> {
    fn folder(&mut self, folder: &OwnedFd, path: &Path, depth: u32) -> Result<()> {
        let mut names = names(folder, path)?;
        names.sort_unstable();
        for name in names {
            let path = path.join(&name);
            // All below a path comes before what comes after it.
            let is_before = path <= self.after;
            if is_before && !self.after.starts_with(&path) {
                continue;
            }
            self.entry(folder, &name, &path, depth, is_before)?;
            if self.is_over {
                return Ok(());
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: &OsString,
        path: &Path,
        depth: u32,
        is_before: bool,
    ) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(folder, name, flags, Mode::empty()) {
            // A program inside was faster.
            Err(Errno::NOENT) => return Ok(()),
            found => found.map_err(refuse(path))?,
        };
        let entry = self.content.describe(&found, path)?;
        let is_folder = entry.kind == FileKind::Directory;
        if !is_before {
            if self.entries.len() == self.limit {
                self.is_over = true;
                return Ok(());
            }
            self.entries.push(entry);
        }
        if is_folder && depth > 1 {
            self.folder(&found, path, depth - 1)?;
        }
        Ok(())
    }
}

/// The names in a folder, in no order.
pub(super) fn names(folder: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
    let folder = File::open(own_path(folder)).map_err(refuse(path))?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder).map_err(refuse(path))? {
        let name = entry.map_err(refuse(path))?.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == MAX_NAMES {
            let text = format!("{} has more than {MAX_NAMES} entries", path.display());
            return Err(Error::new(ErrorCode::TooLarge, text)
                .with_hint("look at it from a sandbox that has the volume"));
        }
        names.push(OsString::from_vec(name));
    }
    Ok(names)
}
