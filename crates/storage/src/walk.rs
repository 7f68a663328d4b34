//! Forking by walking: every entry of a tree made again, with its blocks shared or copied.
//!
//! Names, depth and modes come from a sandbox: nothing is followed, opened as a device or waited for, and the depth is bounded. The caller holds the
//! tree still.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawMode, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, copy_file_range, fchmod, fchown, fgetxattr, flistxattr,
    fsetxattr, ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat, readlinkat,
    seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::layout::{names, open_folder};

/// Folders within folders; each level holds two open files and a stack frame.
const MAX_DEPTH: usize = 512;
/// What the kernel allows for one extended attribute, and for a list of names.
const XATTR_BYTES: usize = 64 * 1024;
const MODE_BITS: RawMode = 0o7777;

/// How the bytes of a file get into the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Blocks are shared until one side writes.
    Share,
    /// Bytes are copied; holes stay holes.
    Copy,
}

/// Makes `to`, an empty folder, equal to `from`.
pub(crate) fn copy_tree(from: &File, to: &File, bytes: Bytes) -> io::Result<()> {
    let mut walk = Walk {
        bytes,
        links: HashMap::new(),
        top: to,
    };
    let stat = rustix::fs::fstat(from)?;
    walk.folder(from, to, &stat, &mut Vec::new())
}

/// The blocks that a tree takes, in bytes, however deep it is; a file with several names has them once. What cannot be read is left out.
pub(crate) fn disk_bytes(folder: &File) -> io::Result<u64> {
    let mut bytes = 0;
    let mut linked = HashSet::new();
    let mut here = folder.try_clone()?;
    // Of each folder on the way here, what was not looked at yet.
    let mut left = vec![names(&here)?];
    while let Some(level) = left.last_mut() {
        let Some(name) = level.pop() else {
            left.pop();
            if !left.is_empty() {
                here = open_folder(&here, "..")?;
            }
            continue;
        };
        let Ok(stat) = statat(&here, &name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_known = !is_folder && stat.st_nlink > 1 && !linked.insert(stat.st_ino);
        if !is_known {
            bytes += stat.st_blocks.cast_unsigned() * 512;
        }
        if is_folder && let Ok((below, within)) = enter(&here, &name) {
            left.push(within);
            here = below;
        }
    }
    Ok(bytes)
}

/// A folder that can be left again, and the names in it.
fn enter(parent: &File, name: &OsStr) -> io::Result<(File, Vec<OsString>)> {
    let folder = open_folder(parent, name)?;
    statat(&folder, "..", AtFlags::empty())?;
    let names = names(&folder)?;
    Ok((folder, names))
}

struct Walk<'a> {
    bytes: Bytes,
    /// Where the first name of each file with several names is, from the top.
    links: HashMap<u64, Vec<OsString>>,
    top: &'a File,
}

impl Walk<'_> {
    fn folder(
        &mut self,
        from: &File,
        to: &File,
        stat: &Stat,
        at: &mut Vec<OsString>,
    ) -> io::Result<()> {
        if at.len() > MAX_DEPTH {
            return Err(io::Error::other("folders are nested too deep to be copied"));
        }
        for name in names(from)? {
            at.push(name);
            self.entry(from, to, at)?;
            at.pop();
        }
        copy_attributes(from, to, stat)
    }

    fn entry(&mut self, from: &File, to: &File, at: &mut Vec<OsString>) -> io::Result<()> {
        let Some(name) = at.last().cloned() else {
            return Ok(());
        };
        let stat = statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            mkdirat(to, &name, Mode::RWXU)?;
            let (from, to) = (open_read(from, &name, &stat)?, open_folder(to, &name)?);
            return self.folder(&from, &to, &stat, at);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino) {
                return link(self.top, first, to, &name);
            }
            self.links.insert(stat.st_ino, at.clone());
        }
        match kind {
            FileType::RegularFile => self.file(from, to, &name, &stat),
            FileType::Symlink => copy_symlink(from, to, &name, &stat),
            _ => copy_node(to, &name, &stat, kind),
        }
    }

    fn file(&self, from: &File, to: &File, name: &OsStr, stat: &Stat) -> io::Result<()> {
        let source = open_read(from, name, stat)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
        match self.bytes {
            Bytes::Share => ioctl_ficlone(&target, &source)?,
            Bytes::Copy => copy_data(&source, &target, stat.st_size.cast_unsigned())?,
        }
        copy_attributes(&source, &target, stat)
    }
}

/// Gives `name` in `to` to the file that was copied to `first`, path components from `top`.
fn link(top: &File, first: &[OsString], to: &File, name: &OsStr) -> io::Result<()> {
    let Some((file, folders)) = first.split_last() else {
        return Ok(());
    };
    let mut folder = top.try_clone()?;
    for step in folders {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = openat(&folder, step, flags, Mode::empty())?.into();
    }
    Ok(linkat(&folder, file, to, name, AtFlags::empty())?)
}

/// Opens what its owner may have made unreadable: without rights over other users' files the mode is lent the bits,
/// which [`copy_attributes`] takes back.
fn open_read(parent: &File, name: &OsStr, stat: &Stat) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let lent = Mode::from_raw_mode(stat.st_mode & MODE_BITS | 0o500);
            chmodat(parent, name, lent, AtFlags::empty())?;
            Ok(openat(parent, name, flags, Mode::empty())?.into())
        }
        other => Ok(other?.into()),
    }
}

fn copy_data(from: &File, to: &File, len: u64) -> io::Result<()> {
    ftruncate(to, len)?;
    let mut at = 0;
    while let Some(start) = seek_or_end(from, SeekFrom::Data(at))? {
        let end = seek_or_end(from, SeekFrom::Hole(start))?.unwrap_or(len);
        let (mut read, mut write) = (start, start);
        while read < end {
            let step = usize::try_from(end - read).unwrap_or(usize::MAX);
            if copy_file_range(from, Some(&mut read), to, Some(&mut write), step)? == 0 {
                return Ok(());
            }
        }
        at = end;
    }
    Ok(())
}

fn seek_or_end(file: &File, to: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, to) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Owner, extended attributes, mode, times: in this order, for each clears some of the ones before.
fn copy_attributes(from: &File, to: &File, stat: &Stat) -> io::Result<()> {
    if rustix::fs::fstat(from)?.st_mode != stat.st_mode {
        fchmod(from, Mode::from_raw_mode(stat.st_mode & MODE_BITS))?;
    }
    let (uid, gid) = owner(stat);
    fchown(to, uid, gid)?;
    copy_xattrs(from, to)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & MODE_BITS))?;
    Ok(futimens(to, &times(stat))?)
}

fn copy_xattrs(from: &File, to: &File) -> io::Result<()> {
    let mut list = vec![0; XATTR_BYTES];
    let len = flistxattr(from, &mut list[..])?;
    if len == 0 {
        return Ok(());
    }
    let mut value = vec![0; XATTR_BYTES];
    for name in list[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        let len = fgetxattr(from, name, &mut value[..])?;
        fsetxattr(to, name, &value[..len], XattrFlags::empty())?;
    }
    Ok(())
}

fn copy_symlink(from: &File, to: &File, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let target = readlinkat(from, name, Vec::new())?;
    symlinkat(OsString::from_vec(target.into_bytes()), to, name)?;
    own_and_date(to, name, stat)
}

/// Pipes, sockets, and the 0:0 devices that stand for deleted names in an overlay.
fn copy_node(to: &File, name: &OsStr, stat: &Stat, kind: FileType) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & MODE_BITS);
    mknodat(to, name, kind, mode, stat.st_rdev)?;
    chmodat(to, name, mode, AtFlags::empty())?;
    own_and_date(to, name, stat)
}

fn own_and_date(to: &File, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(
        to,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn times(stat: &Stat) -> Timestamps {
    let at = |tv_sec, tv_nsec: u64| Timespec {
        tv_sec,
        tv_nsec: tv_nsec.cast_signed(),
    };
    Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn blocks_are_counted_once_and_however_deep_they_lie() {
        const BYTES: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let mut deep = folder.path().to_owned();
        deep.extend(std::iter::repeat_n("d", MAX_DEPTH + 100));
        fs::create_dir_all(&deep).unwrap();
        let count = || disk_bytes(&File::open(folder.path()).unwrap()).unwrap();
        let before = count();
        fs::write(deep.join("much"), vec![1; BYTES]).unwrap();
        for name in ["a", "z"] {
            fs::hard_link(deep.join("much"), folder.path().join(name)).unwrap();
        }
        let grew = count() - before;
        assert!((BYTES as u64..2 * BYTES as u64).contains(&grew), "{grew}");
    }
}
