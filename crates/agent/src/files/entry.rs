//! What is there: one path, or a page of a directory.

use std::collections::BTreeSet;
use std::fs::{self, FileType, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use skerry_proto::agent::{Entries, Entry, List, Resolved};

use crate::files::attributes;
use crate::files::error::{Doing, FileError};
use crate::files::folders::Folders;
use crate::users::Users;

/// Entries in one answer.
const MAX_ENTRIES: usize = 1000;
/// Bytes of paths and attributes in one answer, so that it fits into a frame.
const MAX_PAGE_BYTES: usize = 256 * 1024;

/// What is at this path itself; a symbolic link is not followed.
pub(super) fn stat(path: &Path) -> Result<Entry, FileError> {
    let found = fs::symlink_metadata(path).doing("look at", path)?;
    Ok(describe(path, &found, &Users::load()))
}

/// An entry in the node's words.
pub(super) fn describe(path: &Path, found: &Metadata, users: &Users) -> Entry {
    let kind = found.file_type();
    let (target, resolved, attributes) = if kind.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        (target, resolve(path), Vec::new())
    } else {
        (PathBuf::new(), None, attributes::of(path))
    };
    Entry {
        path: bytes(path),
        kind: number(kind),
        size: found.size(),
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        owner: users.owner(found.uid()),
        group: users.group(found.gid()),
        modified_us: found
            .mtime()
            .saturating_mul(1_000_000)
            .saturating_add(found.mtime_nsec() / 1000),
        target: bytes(&target),
        resolved,
        attributes,
    }
}

/// A kind of entry in the node's words.
fn number(kind: FileType) -> u32 {
    match () {
        () if kind.is_file() => 1,
        () if kind.is_dir() => 2,
        () if kind.is_symlink() => 3,
        () => 4,
    }
}

/// Where a link leads in the end.
fn resolve(link: &Path) -> Option<Resolved> {
    let path = fs::canonicalize(link).ok()?;
    let found = fs::metadata(&path).ok()?;
    Some(Resolved {
        path: bytes(&path),
        kind: number(found.file_type()),
        mode: found.mode() & 0o7777,
    })
}

/// What an entry takes in an answer, as far as it may be much.
fn weight(entry: &Entry) -> usize {
    let resolved = entry.resolved.as_ref().map_or(0, |found| found.path.len());
    let attributes = entry.attributes.iter();
    let attributes: usize = attributes.map(|a| a.name.len() + a.value.len()).sum();
    entry.path.len() + entry.target.len() + resolved + attributes
}

fn bytes(path: &Path) -> Bytes {
    Bytes::copy_from_slice(path.as_os_str().as_bytes())
}

/// A page of the tree below a directory, sorted by path. Memory for one page only, however large the tree.
pub(super) fn list(path: &Path, request: &List) -> Result<Entries, FileError> {
    let users = Users::load();
    let found = fs::metadata(path).doing("list", path)?;
    if !found.is_dir() {
        return Ok(Entries {
            entries: vec![describe(path, &found, &users)],
            more: false,
        });
    }
    let limit = (request.limit as usize).clamp(1, MAX_ENTRIES);
    let mut page = Page {
        after: &request.after,
        limit,
        paths: BTreeSet::new(),
    };
    page.collect(path, request.depth.max(1))?;
    let mut more = page.paths.len() > limit;
    let mut entries = Vec::new();
    let mut size = 0;
    for path in page.paths.into_iter().take(limit) {
        // Gone since: no part of the page.
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        let entry = describe(&path, &found, &users);
        size += weight(&entry);
        if size > MAX_PAGE_BYTES && !entries.is_empty() {
            more = true;
            break;
        }
        entries.push(entry);
    }
    Ok(Entries { entries, more })
}

/// The first paths after one, out of any number.
struct Page<'a> {
    after: &'a [u8],
    limit: usize,
    paths: BTreeSet<PathBuf>,
}

impl Page<'_> {
    fn collect(&mut self, root: &Path, depth: u32) -> Result<(), FileError> {
        let mut folders = Folders::of(root.to_owned(), depth);
        let mut first = true;
        while let Some((folder, depth)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if first => return Err(error).doing("list", root),
                // Gone or closed to us: it was listed itself.
                Err(_) => continue,
            };
            first = false;
            for entry in entries.flatten() {
                if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path(), depth - 1)?;
                }
                self.offer(entry.path());
            }
        }
        Ok(())
    }

    fn offer(&mut self, path: PathBuf) {
        if path.as_os_str().as_bytes() <= self.after {
            return;
        }
        self.paths.insert(path);
        if self.paths.len() > self.limit + 1 {
            self.paths.pop_last();
        }
    }
}
