//! The folder that an archive is unpacked into, reachable only from its own descriptor.
//!
//! Every parent is opened with `openat2` beneath the root and through no link; every last name is used with
//! calls that do not follow links.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use skerry_sys::idmap::Ids;

use super::metadata::Metadata;
use super::path::EntryPath;
use super::{Result, UnpackError};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, openat2,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Our overlays are mounted with `userxattr`, where the mark of an opaque folder has this name.
const OPAQUE_XATTR: &str = "user.overlay.opaque";
/// Runs of zeros of this length become holes.
const BLOCK: usize = 64 * 1024;

/// The root of the unpacked tree.
pub(super) struct Tree {
    root: OwnedFd,
    ids: Ids,
    /// The folder used last: archives go folder by folder.
    last: Option<(EntryPath, Rc<OwnedFd>)>,
    /// Times of folders, set at the end because each new entry changes them.
    folder_times: Vec<(EntryPath, Timestamps)>,
}

impl Tree {
    pub(super) fn open(target: &Path, ids: Ids) -> Result<Self> {
        let open = || {
            let root = openat(CWD, target, FOLDER, Mode::empty())?;
            fchmod(&root, Mode::from_raw_mode(0o755))?;
            if let (Some(uid), Some(gid)) = on_disk(ids, (0, 0)) {
                fchown(&root, Some(uid), Some(gid))?;
            }
            Ok(root)
        };
        Ok(Self {
            root: open().map_err(|e: Errno| write_error(".", e))?,
            ids,
            last: None,
            folder_times: Vec::new(),
        })
    }

    /// Sets what had to wait for the last entry.
    pub(super) fn finish(mut self) -> Result<()> {
        for (path, times) in std::mem::take(&mut self.folder_times) {
            let folder = self.open_folder(&path)?;
            futimens(&folder, &times).map_err(|e| write_error(&path, e))?;
        }
        Ok(())
    }

    pub(super) fn folder(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<()> {
        if !path.is_root() {
            let parent = self.parent(path)?;
            let old = kind(&parent, path)?;
            if old != Some(FileType::Directory) {
                remove_old(&parent, path)?;
                self.make_folder(&parent, path)?;
            }
            if old == Some(FileType::CharacterDevice) {
                // A whiteout of the same name: the folder is new and shows nothing from below.
                self.opaque(path)?;
            }
        }
        let folder = self.open_folder(path)?;
        let mut mode = metadata.mode;
        if self.ids == Ids::One {
            // Without root's rights a closed folder could neither be filled nor removed.
            mode |= Mode::RWXU;
        }
        self.describe(&folder, path, metadata, mode)?;
        self.folder_times
            .push((path.clone(), metadata.times.clone()));
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        content: &mut impl Read,
    ) -> Result<()> {
        let parent = self.parent(path)?;
        remove_old(&parent, path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = openat(&*parent, path.name(), flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|e| write_error(path, e))?;
        copy_with_holes(content, &mut file, path)?;
        self.describe(&file, path, metadata, metadata.mode)?;
        futimens(&file, &metadata.times).map_err(|e| write_error(path, e))
    }

    pub(super) fn symlink(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        target: &[u8],
    ) -> Result<()> {
        let parent = self.parent(path)?;
        remove_old(&parent, path)?;
        symlinkat(target, &*parent, path.name()).map_err(|e| write_error(path, e))?;
        self.describe_name(&parent, path, metadata)
    }

    pub(super) fn hardlink(&mut self, path: &EntryPath, target: &EntryPath) -> Result<()> {
        let parent = self.parent(path)?;
        let missing = || UnpackError::HardlinkTarget {
            path: path.to_string(),
            target: target.to_string(),
        };
        let from = openat2(
            &self.root,
            folder_name(&target.parent()),
            FOLDER,
            Mode::empty(),
            CONFINED,
        )
        .map_err(|_| missing())?;
        if target == path || matches!(kind(&from, target)?, None | Some(FileType::Directory)) {
            return Err(missing());
        }
        remove_old(&parent, path)?;
        linkat(
            &from,
            target.name(),
            &*parent,
            path.name(),
            AtFlags::empty(),
        )
        .map_err(|e| write_error(path, e))
    }

    pub(super) fn fifo(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<()> {
        let parent = self.parent(path)?;
        remove_old(&parent, path)?;
        mknodat(&*parent, path.name(), FileType::Fifo, Mode::RUSR, 0)
            .map_err(|e| write_error(path, e))?;
        self.describe_name(&parent, path, metadata)?;
        // Made just now by us in a folder of ours: no link can be in its place.
        chmodat(&*parent, path.name(), metadata.mode, AtFlags::empty())
            .map_err(|e| write_error(path, e))
    }

    /// Hides what the layers below have under this name. The kernel lets everybody make this device.
    pub(super) fn whiteout(&mut self, path: &EntryPath) -> Result<()> {
        let parent = self.parent(path)?;
        match kind(&parent, path)? {
            // The layer itself has it, which stays; a folder shows only the layer's own.
            Some(FileType::Directory) => self.opaque(path),
            Some(_) => Ok(()),
            None => mknodat(
                &*parent,
                path.name(),
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .map_err(|e| write_error(path, e)),
        }
    }

    /// Hides all that the layers below have in this folder.
    pub(super) fn opaque(&mut self, path: &EntryPath) -> Result<()> {
        let folder = self.open_or_make(path)?;
        fsetxattr(&*folder, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .map_err(|e| write_error(path, e))
    }

    fn parent(&mut self, path: &EntryPath) -> Result<Rc<OwnedFd>> {
        self.open_or_make(&path.parent())
    }

    fn open_or_make(&mut self, path: &EntryPath) -> Result<Rc<OwnedFd>> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.clone());
        }
        let folder = match self.open_folder(path) {
            Err(UnpackError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let parent = self.open_or_make(&path.parent())?;
                self.make_folder(&parent, path)?;
                self.open_folder(path)
            }
            other => other,
        };
        let folder = Rc::new(folder?);
        self.last = Some((path.clone(), folder.clone()));
        Ok(folder)
    }

    /// Until the archive says more, or if it never does, it is root's.
    fn make_folder(&self, parent: &OwnedFd, path: &EntryPath) -> Result<()> {
        let make = || {
            mkdirat(parent, path.name(), Mode::from_raw_mode(0o755))?;
            let (uid, gid) = on_disk(self.ids, (0, 0));
            chownat(parent, path.name(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        };
        make().map_err(|e| write_error(path, e))
    }

    fn open_folder(&self, path: &EntryPath) -> Result<OwnedFd> {
        openat2(
            &self.root,
            folder_name(path),
            FOLDER,
            Mode::empty(),
            CONFINED,
        )
        .map_err(|e| match e {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => UnpackError::NotAFolder(path.to_string()),
            other => write_error(path, other),
        })
    }

    /// Owner before mode: a change of owner takes the setuid bit away.
    fn describe(
        &self,
        fd: &impl AsFd,
        path: &EntryPath,
        metadata: &Metadata,
        mode: Mode,
    ) -> Result<()> {
        let apply = || {
            let (uid, gid) = on_disk(self.ids, metadata.owner);
            fchown(fd, uid, gid)?;
            fchmod(fd, mode)?;
            for (name, value) in &metadata.xattrs {
                if self.ids != Ids::One || name.starts_with("user.") {
                    fsetxattr(fd, name.as_str(), value, XattrFlags::empty())?;
                }
            }
            Ok(())
        };
        apply().map_err(|e: Errno| write_error(path, e))
    }

    /// For what cannot be opened: owner and times, not followed.
    fn describe_name(&self, parent: &OwnedFd, path: &EntryPath, metadata: &Metadata) -> Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let apply = || {
            let (uid, gid) = on_disk(self.ids, metadata.owner);
            chownat(parent, path.name(), uid, gid, nofollow)?;
            utimensat(parent, path.name(), &metadata.times, nofollow)
        };
        apply().map_err(|e| write_error(path, e))
    }
}

/// What has this name in the folder; nothing has the root's empty name.
fn kind(parent: &OwnedFd, path: &EntryPath) -> Result<Option<FileType>> {
    match statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(write_error(path, e)),
    }
}

/// The owner that a file gets; none where everything belongs to this process anyway.
fn on_disk(ids: Ids, (uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    let uid = ids.on_disk(uid).map(Uid::from_raw);
    (uid, ids.on_disk(gid).map(Gid::from_raw))
}

/// A later entry of the same name replaces an earlier one, unless that is a folder.
fn remove_old(parent: &OwnedFd, path: &EntryPath) -> Result<()> {
    match unlinkat(parent, path.name(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(UnpackError::ReplacesFolder(path.to_string())),
        Err(e) => Err(write_error(path, e)),
    }
}

fn folder_name(path: &EntryPath) -> &[u8] {
    if path.is_root() { b"." } else { path.bytes() }
}

fn copy_with_holes(content: &mut impl Read, file: &mut File, path: &EntryPath) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        let n = fill(content, &mut block)?;
        if n == 0 {
            break;
        }
        length += n as u64;
        let written = if n == BLOCK && block.iter().all(|&b| b == 0) {
            file.seek(SeekFrom::Start(length)).map(|_| ())
        } else {
            file.write_all(&block[..n])
        };
        written.map_err(|source| write_error(path, source))?;
    }
    file.set_len(length)
        .map_err(|source| write_error(path, source))
}

/// Reads until the block is full or the content ends.
fn fill(content: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match content.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn write_error(path: &(impl ToString + ?Sized), error: impl Into<io::Error>) -> UnpackError {
    UnpackError::Write {
        path: path.to_string(),
        source: error.into(),
    }
}
