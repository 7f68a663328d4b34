//! One file out, one file in.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use skerry_proto::agent::Entry;
use skerry_proto::frame::CHUNK_BYTES;

use crate::files::edit::make_dir;
use crate::files::entry::describe;
use crate::files::error::{Doing, FileError};
use crate::files::flow::{Sink, Source};
use crate::users::{User, Users};

const DEFAULT_MODE: u32 = 0o644;

/// Opens a regular file for reading. Anything that could block or do something when opened is refused.
pub(super) fn open(path: &Path, offset: u64) -> Result<(File, Entry), FileError> {
    let mut file = open_regular(path)?;
    let found = file.metadata().doing("read", path)?;
    file.seek(SeekFrom::Start(offset)).doing("read", path)?;
    Ok((file, describe(path, &found, &Users::load())))
}

/// A regular file, or an error.
pub(super) fn open_regular(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .doing("read", path)?;
    let kind = file.metadata().doing("read", path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR)).doing("read", path);
    }
    if !kind.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    Ok(file)
}

/// Sends what is left of a file, at most `limit` bytes of it; 0 means all.
pub(super) fn read(file: File, limit: u64, sink: &mut Sink, path: &Path) -> Result<(), FileError> {
    let mut file = file.take(if limit == 0 { u64::MAX } else { limit });
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let size = file.read(&mut buffer).doing("read", path)?;
        if size == 0 {
            return Ok(());
        }
        sink.write_all(&buffer[..size])
            .map_err(|_| FileError::GivenUp)?;
    }
}

/// Writes a file from what arrives: beside it first, in its place once all is there.
pub(super) fn write(
    path: &Path,
    mode: u32,
    user: &User,
    source: &mut Source,
) -> Result<Entry, FileError> {
    let path = &destination(path);
    let folder = path.parent().unwrap_or(path);
    make_dir(folder, 0, user)?;
    let before = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(io::Error::from_raw_os_error(libc::EISDIR)).doing("write", path);
        }
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            return Err(FileError::NotAFile(path.clone()));
        }
        found => found.ok().filter(fs::Metadata::is_file),
    };
    let mut draft = Draft::beside(path)?;
    copy(source, &mut draft.file, path)?;
    let (uid, gid) = match &before {
        Some(before) => (before.uid(), before.gid()),
        None => (user.uid, user.gid),
    };
    let mode = match (mode, &before) {
        (0, Some(before)) => before.mode(),
        (0, None) => DEFAULT_MODE,
        (mode, _) => mode,
    };
    draft.give(uid, gid, mode & 0o7777).doing("write", path)?;
    draft.put(path)?;
    let found = fs::symlink_metadata(path).doing("write", path)?;
    Ok(describe(path, &found, &Users::load()))
}

/// Where a write goes: through links, as with any program.
fn destination(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn copy(source: &mut Source, file: &mut File, path: &Path) -> Result<(), FileError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let size = source.read(&mut buffer).map_err(|_| FileError::Broken)?;
        if size == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..size]).doing("write", path)?;
    }
}

/// A file that is gone unless it is put in its place.
struct Draft {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl Draft {
    fn beside(path: &Path) -> Result<Self, FileError> {
        let mut bytes = [0; 8];
        // Names only have to differ; `create_new` fails if they do not.
        let _: rustix::io::Result<usize> =
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let name = format!(".skerry-{:016x}.part", u64::from_ne_bytes(bytes));
        let draft = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .doing("write", path)?;
        Ok(Self {
            path: draft,
            file,
            placed: false,
        })
    }

    fn give(&self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let now = self.file.metadata()?;
        if (now.uid(), now.gid()) != (uid, gid) {
            fchown(&self.file, Some(uid), Some(gid))?;
        }
        self.file.set_permissions(Permissions::from_mode(mode))
    }

    fn put(&mut self, path: &Path) -> Result<(), FileError> {
        fs::rename(&self.path, path).doing("write", path)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            // Whoever removed it was faster.
            let _: io::Result<()> = fs::remove_file(&self.path);
        }
    }
}
