//! One file out, one file in.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, Stat, fstatfs, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;
use skerry_proto::agent::{Entry, Overwrite};
use skerry_proto::frame::CHUNK_BYTES;

use crate::files::attributes;
use crate::files::edit::make_dir;
use crate::files::entry::describe;
use crate::files::error::{Doing, FileError};
use crate::files::flow::{Sink, Source};
use crate::users::{User, Users};

const DEFAULT_MODE: u32 = 0o644;

/// Opens a regular file for reading. Anything that could block or do something when opened is refused.
pub(super) fn open(path: &Path, offset: u64) -> Result<(File, Entry), FileError> {
    let mut file = open_regular(path, OFlags::empty())?;
    let found = file.metadata().doing("read", path)?;
    file.seek(SeekFrom::Start(offset)).doing("read", path)?;
    Ok((file, describe(path, &found, &Users::load())))
}

/// A regular file, or an error.
pub(super) fn open_regular(path: &Path, how: OFlags) -> Result<File, FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | how;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).doing("read", path)?);
    let kind = file.metadata().doing("read", path)?.file_type();
    if kind.is_dir() {
        return Err(Errno::ISDIR).doing("read", path);
    }
    if !kind.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    if is_about_us(&file) {
        return Err(Errno::ACCESS).doing("read", path);
    }
    Ok(file)
}

/// Whether it is one of the kernel's files on this process. Its memory holds what others' commands were given, and to itself it is open.
fn is_about_us(file: &File) -> bool {
    if fstatfs(file).is_ok_and(|found| found.f_type != PROC_SUPER_MAGIC) {
        return false;
    }
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    path.components().any(|part| {
        let task = Path::new("/proc/self/task").join(part);
        part.as_os_str().as_encoded_bytes()[0].is_ascii_digit() && task.exists()
    })
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
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ISDIR).doing("write", path);
    };
    // Found once, and all that follows happens in it, whatever a program puts in its place meanwhile.
    let folder = make_dir(parent, 0, user)?;
    let before = replaced(&folder, name, path)?;
    let mut draft = Draft::beside(folder, path)?;
    copy(source, &mut draft.file, path)?;
    let (uid, gid) = match &before {
        Some(before) => (before.st_uid, before.st_gid),
        None => (user.uid, user.gid),
    };
    let mode = match (mode, &before) {
        // New content does not run with the powers that somebody gave to the old.
        (0, Some(before)) => before.st_mode & 0o777,
        (0, None) => DEFAULT_MODE,
        (mode, _) => mode,
    };
    draft.give(uid, gid, mode & 0o7777).doing("write", path)?;
    draft.put(name).doing("write", path)?;
    let found = draft.file.metadata().doing("write", path)?;
    Ok(describe(path, &found, &Users::load()))
}

/// Writes what arrives into a file itself.
pub(super) fn overwrite(
    path: &Path,
    request: &Overwrite,
    user: &User,
    source: &mut Source,
) -> Result<Entry, FileError> {
    if let Some(parent) = path.parent() {
        make_dir(parent, 0, user)?;
    }
    // Not emptied before it is known to be one that may be.
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(DEFAULT_MODE);
    let mut file = File::from(rustix::fs::open(path, flags, mode).doing("write", path)?);
    let found = file.metadata().doing("write", path)?;
    if !found.is_file() || is_the_kernels(&file) {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    file.set_len(0).doing("write", path)?;
    fchown(&file, Some(user.uid), Some(user.gid)).doing("write", path)?;
    if !request.attribute_prefix.is_empty() {
        attributes::replace(&file, &request.attribute_prefix, &request.attributes, path)?;
    }
    copy(source, &mut file, path)?;
    let found = file.metadata().doing("write", path)?;
    Ok(describe(path, &found, &Users::load()))
}

/// Whether it is no file of anybody's but a way to tell the kernel something: what the agent may tell it, its callers may not.
fn is_the_kernels(file: &File) -> bool {
    const THEIRS: [FsWord; 4] = [
        PROC_SUPER_MAGIC,
        libc::SYSFS_MAGIC,
        libc::CGROUP_SUPER_MAGIC,
        libc::CGROUP2_SUPER_MAGIC,
    ];
    fstatfs(file).is_ok_and(|found| THEIRS.contains(&found.f_type))
}

/// The file that stands where one is to be written, if there is one.
fn replaced(folder: impl AsFd, name: &OsStr, path: &Path) -> Result<Option<Stat>, FileError> {
    let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        found => found.doing("write", path)?,
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(Some(found)),
        FileType::Symlink => Ok(None),
        FileType::Directory => Err(Errno::ISDIR).doing("write", path),
        _ => Err(FileError::NotAFile(path.to_owned())),
    }
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
    folder: OwnedFd,
    name: String,
    file: File,
    placed: bool,
}

impl Draft {
    fn beside(folder: OwnedFd, path: &Path) -> Result<Self, FileError> {
        let mut bytes = [0; 8];
        // Names only have to differ; `EXCL` fails if they do not.
        let _: rustix::io::Result<usize> =
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let name = format!(".skerry-{:016x}.part", u64::from_ne_bytes(bytes));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR).doing("write", path)?;
        Ok(Self {
            folder,
            name,
            file: file.into(),
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

    fn put(&mut self, name: &OsStr) -> rustix::io::Result<()> {
        renameat(&self.folder, &self.name, &self.folder, name)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            // Whoever removed it was faster.
            let _: rustix::io::Result<()> = unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}
