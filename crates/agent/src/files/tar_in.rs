//! A tar stream unpacked below a directory, and never outside of it.
//!
//! Each name is resolved by the kernel below the open target, so that no link, old, new or swapped meanwhile, leads out.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown,
    linkat, mkdirat, openat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType, Header, PaxExtensions};

use crate::files::edit::make_dir;
use crate::files::error::{Doing, FileError};
use crate::files::flow::Source;
use crate::users::User;

/// A header's long name or extensions.
const MAX_HEADER_BYTES: u64 = 64 * 1024;
/// Bytes of the names of directories whose mode and time are set at the end, when nothing is written into them any more.
const MAX_FOLDER_BYTES: usize = 4 * 1024 * 1024;

/// Unpacks, and returns the bytes of all files.
pub(super) fn unpack(target: &Path, user: &User, source: Source) -> Result<u64, FileError> {
    let mut unpacker = Unpacker {
        target: make_dir(target, 0, user)?,
        user,
        bytes: 0,
        folders: Vec::new(),
        folder_bytes: 0,
        pending: Pending::default(),
    };
    let mut archive = Archive::new(source);
    let entries = archive.entries().map_err(FileError::Archive)?.raw(true);
    for entry in entries {
        unpacker.entry(entry.map_err(FileError::Archive)?)?;
    }
    unpacker.finish_folders()?;
    // What follows the archive's end mark belongs to it.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|_| FileError::Broken)?;
    Ok(unpacker.bytes)
}

/// What extension headers say of the entry after them.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    mtime: Option<i64>,
}

struct Unpacker<'a> {
    target: OwnedFd,
    user: &'a User,
    bytes: u64,
    folders: Vec<(PathBuf, u32, Timestamps)>,
    folder_bytes: usize,
    pending: Pending,
}

impl Unpacker<'_> {
    fn entry(&mut self, mut entry: Entry<'_, Source>) -> Result<(), FileError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.pending.path = Some(long_text(&mut entry)?),
            EntryType::GNULongLink => self.pending.link = Some(long_text(&mut entry)?),
            EntryType::XHeader => self.extensions(&mut entry)?,
            EntryType::XGlobalHeader => {}
            _ => return self.place(entry),
        }
        Ok(())
    }

    fn extensions(&mut self, entry: &mut Entry<'_, Source>) -> Result<(), FileError> {
        for extension in PaxExtensions::new(&long_header(entry)?) {
            let extension = extension.map_err(FileError::Archive)?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"path" => self.pending.path = Some(value.to_vec()),
                b"linkpath" => self.pending.link = Some(value.to_vec()),
                b"mtime" => self.pending.mtime = whole_seconds(value),
                // A size that the header cannot hold, or a sparse file: reading on would read garbage.
                b"size" => return Err(FileError::Kind(name(entry.header()))),
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(FileError::Kind(name(entry.header())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn place(&mut self, mut entry: Entry<'_, Source>) -> Result<(), FileError> {
        let pending = std::mem::take(&mut self.pending);
        let header = entry.header().clone();
        let full = pending.path.map_or_else(|| name(&header), path);
        let times = times(&header, pending.mtime);
        let mode = header.mode().map_err(FileError::Archive)? & 0o7777;
        let below = below(&full)?;
        let Some(last) = below.file_name() else {
            // The target itself.
            return Ok(());
        };
        let folder = self.folder_of(&below)?;
        let doing = |result: rustix::io::Result<()>| result.doing("unpack", &full);
        match header.entry_type() {
            EntryType::Directory => {
                doing(self.make_folder(&folder, Path::new(last)))?;
                self.later(below, mode, times, &full)
            }
            EntryType::Regular | EntryType::Continuous => {
                doing(clear(&folder, Path::new(last)))?;
                let file = self.file(&folder, Path::new(last), mode, &times, &mut entry);
                self.bytes += file.doing("unpack", &full)?;
                Ok(())
            }
            EntryType::Symlink => {
                let link = link_target(&header, pending.link);
                doing(clear(&folder, Path::new(last)))?;
                doing(symlinkat(&link, &folder, last))?;
                doing(self.own_link(&folder, Path::new(last), &times))
            }
            EntryType::Link => {
                let first = self::below(&link_target(&header, pending.link))?;
                let Some(first_name) = first.file_name() else {
                    return Err(FileError::Kind(full));
                };
                let first_folder = self.folder_of(&first)?;
                doing(clear(&folder, Path::new(last)))?;
                doing(linkat(
                    first_folder,
                    first_name,
                    &folder,
                    last,
                    AtFlags::empty(),
                ))
            }
            _ => Err(FileError::Kind(full)),
        }
    }

    /// The directory that a name stands in, made if missing.
    fn folder_of(&self, below: &Path) -> Result<OwnedFd, FileError> {
        let parent = below.parent().unwrap_or(Path::new(""));
        match self.open(parent) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(|error| refused(error, below)),
        }
        let mut way = PathBuf::new();
        let mut folder = self.open(&way).map_err(|error| refused(error, below))?;
        for part in parent.components() {
            self.make_folder(&folder, Path::new(part.as_os_str()))
                .map_err(|error| refused(error, below))?;
            way.push(part);
            folder = self.open(&way).map_err(|error| refused(error, below))?;
        }
        Ok(folder)
    }

    /// Opens a directory below the target.
    fn open(&self, below: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let whole = if below.as_os_str().is_empty() {
            Path::new(".")
        } else {
            below
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.target, whole, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return opened,
        }
        // Kernels without it: no link at all on the way.
        let flags = flags | OFlags::NOFOLLOW;
        let mut folder = openat(&self.target, ".", flags, Mode::empty())?;
        for part in below.components() {
            folder = openat(&folder, part.as_os_str(), flags, Mode::empty())?;
        }
        Ok(folder)
    }

    fn make_folder(&self, parent: &OwnedFd, name: &Path) -> rustix::io::Result<()> {
        match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.own(parent, name),
            Err(Errno::EXIST) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                openat(parent, name, flags, Mode::empty()).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    fn file(
        &self,
        folder: &OwnedFd,
        name: &Path,
        mode: u32,
        times: &Timestamps,
        content: &mut impl Read,
    ) -> io::Result<u64> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        let size = io::copy(content, &mut file)?;
        if self.is_change() {
            fchown(&file, Some(self.uid()), Some(self.gid()))?;
        }
        fchmod(&file, Mode::from_raw_mode(mode))?;
        rustix::fs::futimens(&file, times)?;
        Ok(size)
    }

    /// Directories get their mode and time when all is unpacked; beyond a bound, now.
    fn later(
        &mut self,
        below: PathBuf,
        mode: u32,
        times: Timestamps,
        full: &Path,
    ) -> Result<(), FileError> {
        if self.folder_bytes < MAX_FOLDER_BYTES {
            self.folder_bytes += size_of::<(PathBuf, u32, Timestamps)>() + below.as_os_str().len();
            self.folders.push((below, mode, times));
            return Ok(());
        }
        self.finish_folder(&below, mode, &times)
            .doing("unpack", full)
    }

    fn finish_folders(&mut self) -> Result<(), FileError> {
        for (below, mode, times) in std::mem::take(&mut self.folders).into_iter().rev() {
            self.finish_folder(&below, mode, &times)
                .doing("unpack", &below)?;
        }
        Ok(())
    }

    fn finish_folder(&self, below: &Path, mode: u32, times: &Timestamps) -> rustix::io::Result<()> {
        let folder = self.open(below)?;
        let folder = openat(
            &folder,
            ".",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        fchmod(&folder, Mode::from_raw_mode(mode))?;
        rustix::fs::futimens(&folder, times)
    }

    fn own_link(
        &self,
        folder: &OwnedFd,
        name: &Path,
        times: &Timestamps,
    ) -> rustix::io::Result<()> {
        self.own(folder, name)?;
        utimensat(folder, name, times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn own(&self, folder: &OwnedFd, name: &Path) -> rustix::io::Result<()> {
        if !self.is_change() {
            return Ok(());
        }
        let (uid, gid) = (Some(self.uid()), Some(self.gid()));
        chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What we make belongs to us already.
    fn is_change(&self) -> bool {
        (self.uid(), self.gid()) != (rustix::process::geteuid(), rustix::process::getegid())
    }

    fn uid(&self) -> Uid {
        Uid::from_raw(self.user.uid)
    }

    fn gid(&self) -> Gid {
        Gid::from_raw(self.user.gid)
    }
}

/// The kernel's word for a way that leads out.
fn refused(error: Errno, below: &Path) -> FileError {
    match error {
        Errno::XDEV | Errno::LOOP => FileError::Outside(below.to_owned()),
        error => FileError::Io {
            doing: "unpack",
            path: below.to_owned(),
            source: error.into(),
        },
    }
}

/// A name from an archive as a path below the target.
fn below(full: &Path) -> Result<PathBuf, FileError> {
    let mut below = PathBuf::new();
    for part in full.components() {
        match part {
            Component::Normal(part) => below.push(part),
            Component::CurDir => {}
            _ => return Err(FileError::Outside(full.to_owned())),
        }
    }
    Ok(below)
}

/// Makes room for a new file or link. A directory stays in the way.
fn clear(folder: impl AsFd, name: &Path) -> rustix::io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn long_header(entry: &mut Entry<'_, Source>) -> Result<Vec<u8>, FileError> {
    if entry.size() > MAX_HEADER_BYTES {
        let path = name(entry.header());
        let max = MAX_HEADER_BYTES;
        return Err(FileError::LongHeader { path, max });
    }
    let mut text = Vec::new();
    entry
        .read_to_end(&mut text)
        .map_err(|_| FileError::Broken)?;
    Ok(text)
}

fn long_text(entry: &mut Entry<'_, Source>) -> Result<Vec<u8>, FileError> {
    let mut text = long_header(entry)?;
    if text.last() == Some(&0) {
        text.pop();
    }
    Ok(text)
}

fn name(header: &Header) -> PathBuf {
    path(header.path_bytes().into_owned())
}

fn link_target(header: &Header, pending: Option<Vec<u8>>) -> PathBuf {
    let short = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
    path(pending.or_else(short).unwrap_or_default())
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn whole_seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split('.').next()?.parse().ok()
}

fn times(header: &Header, pending: Option<i64>) -> Timestamps {
    let short = || i64::try_from(header.mtime().ok()?).ok();
    let time = Timespec {
        tv_sec: pending.or_else(short).unwrap_or(0),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
