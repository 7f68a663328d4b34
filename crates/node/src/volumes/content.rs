//! What is in a volume: found by paths that lead nowhere else, looked at and changed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chmodat, chownat, fstat,
    mkdirat, openat2, readlinkat,
};
use rustix::io::Errno;
use skerry_proto::node::{FileKind, VolumeAttributes, VolumeEntry};
use skerry_sys::idmap::Ids;
use skerry_types::limits::MAX_PATH_BYTES;
use skerry_types::{Error, ErrorCode, Result};

/// An absolute link, and `..`, stop at the volume's root.
const CONFINED: ResolveFlags = ResolveFlags::IN_ROOT
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
/// The kernel gives up where somebody renames while it looks.
const TRIES: usize = 16;
const FOLDER_MODE: u32 = 0o755;
const MODE_BITS: u32 = 0o7777;

/// A volume, open.
#[derive(Debug)]
pub(crate) struct Content {
    root: OwnedFd,
    ids: Ids,
}

impl Content {
    pub(super) fn open(folder: &Path, ids: Ids) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(folder, flags, Mode::empty());
        let root = root.map_err(|error| Error::internal(io::Error::from(error)))?;
        Ok(Self { root, ids })
    }

    /// What is there, a link itself.
    pub(crate) fn stat(&self, path: &str) -> Result<VolumeEntry> {
        let path = plain(path)?;
        let found = self.find(&path, OFlags::NOFOLLOW)?;
        self.describe(&found, &path)
    }

    /// Makes a directory, and with `parents` those on the way.
    pub(crate) fn make_dir(
        &self,
        path: &str,
        parents: bool,
        attributes: VolumeAttributes,
    ) -> Result<VolumeEntry> {
        let path = plain(path)?;
        let folder = self.folder(&path, parents, attributes)?;
        self.describe(&folder, &path)
    }

    /// Gives a file or directory new attributes.
    pub(crate) fn change(&self, path: &str, attributes: VolumeAttributes) -> Result<VolumeEntry> {
        let path = plain(path)?;
        let found = self.find(&path, OFlags::empty())?;
        self.give(&found, attributes).map_err(refuse(&path))?;
        self.describe(&found, &path)
    }

    /// A handle on what is at a path.
    pub(super) fn find(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.resolve(path, flags).map_err(refuse(path))
    }

    /// The folder that has a path's last part, and that part.
    pub(super) fn parent<'a>(
        &self,
        path: &'a Path,
        make: bool,
    ) -> Result<(OwnedFd, &'a std::ffi::OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::validation("path: is the volume itself"));
        };
        let folder = if make {
            self.folder(parent, true, VolumeAttributes::default())?
        } else {
            self.find(parent, OFlags::DIRECTORY)?
        };
        Ok((folder, name))
    }

    /// A directory, made if it is missing; its parents too if asked for.
    fn folder(&self, path: &Path, parents: bool, attributes: VolumeAttributes) -> Result<OwnedFd> {
        match self.resolve(path, OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            found => return found.map_err(refuse(path)),
        }
        let (above, name) = self.parent(path, parents)?;
        match mkdirat(&above, name, Mode::RWXU) {
            Err(Errno::EXIST) => return self.find(path, OFlags::DIRECTORY),
            made => made.map_err(refuse(path))?,
        }
        let folder = self.find(path, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let made = self.dress(&folder, &above, FOLDER_MODE, attributes);
        made.map_err(refuse(path)).map(|()| folder)
    }

    /// Something new belongs to whoever the folder that it is in belongs to, unless it is said otherwise.
    pub(super) fn dress(
        &self,
        new: &OwnedFd,
        above: &OwnedFd,
        mode: u32,
        attributes: VolumeAttributes,
    ) -> io::Result<()> {
        let folder = fstat(above)?;
        self.give(
            new,
            VolumeAttributes {
                mode: attributes.mode.or(Some(mode)),
                uid: attributes.uid.or(Some(self.ids.inside(folder.st_uid))),
                gid: attributes.gid.or(Some(self.ids.inside(folder.st_gid))),
            },
        )
    }

    /// The owner first: a new one takes away bits of the mode.
    pub(super) fn give(&self, to: &OwnedFd, attributes: VolumeAttributes) -> io::Result<()> {
        let on_disk = |id: Option<u32>| id.and_then(|id| self.ids.on_disk(id));
        let uid = on_disk(attributes.uid).map(Uid::from_raw);
        let gid = on_disk(attributes.gid).map(Gid::from_raw);
        if uid.is_some() || gid.is_some() {
            chownat(to, "", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = attributes.mode {
            let mode = Mode::from_raw_mode(mode & MODE_BITS);
            chmodat(CWD, own_path(to), mode, AtFlags::empty())?;
        }
        Ok(())
    }

    /// What a handle is on.
    pub(super) fn describe(&self, found: &OwnedFd, path: &Path) -> Result<VolumeEntry> {
        let stat = fstat(found).map_err(refuse(path))?;
        let mut entry = self.entry(path, &stat);
        if entry.kind == FileKind::Symlink {
            let target = readlinkat(found, "", Vec::new()).map_err(refuse(path))?;
            entry.symlink_target = Some(target.to_string_lossy().into_owned());
        }
        Ok(entry)
    }

    fn entry(&self, path: &Path, stat: &Stat) -> VolumeEntry {
        let name = path.file_name().unwrap_or_default();
        VolumeEntry {
            name: name.to_string_lossy().into_owned(),
            path: path.to_string_lossy().into_owned(),
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => FileKind::File,
                FileType::Directory => FileKind::Directory,
                FileType::Symlink => FileKind::Symlink,
                _ => FileKind::Other,
            },
            size_bytes: stat.st_size.cast_unsigned(),
            mode: stat.st_mode & MODE_BITS,
            uid: self.ids.inside(stat.st_uid),
            gid: self.ids.inside(stat.st_gid),
            accessed_at: time(stat.st_atime, stat.st_atime_nsec),
            modified_at: time(stat.st_mtime, stat.st_mtime_nsec),
            changed_at: time(stat.st_ctime, stat.st_ctime_nsec),
            symlink_target: None,
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let mut tries = 0;
        loop {
            tries += 1;
            match openat2(&self.root, path, flags, Mode::empty(), CONFINED) {
                Err(Errno::AGAIN) if tries < TRIES => {}
                done => return done,
            }
        }
    }
}

/// The same thing by a path that leads to it and nothing else.
pub(super) fn own_path(handle: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

/// A path from the volume's root without `.`, `//` and an end of `/`.
pub(super) fn plain(path: &str) -> Result<PathBuf> {
    if path.len() > MAX_PATH_BYTES {
        return Err(Error::validation(format!(
            "path: longer than {MAX_PATH_BYTES} bytes"
        )));
    }
    if path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(Error::validation("path: has NUL or `..` in it"));
    }
    Ok(Path::new("/").join(path).components().collect())
}

/// Why not, for whoever asked.
pub(super) fn refuse<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Error {
    move |error| {
        let error = error.into();
        let code = match error.kind() {
            io::ErrorKind::NotFound => {
                return Error::not_found(format!("{} in the volume", path.display()));
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::ResourceBusy => ErrorCode::Conflict,
            io::ErrorKind::PermissionDenied => ErrorCode::Forbidden,
            _ => ErrorCode::ValidationError,
        };
        Error::new(code, format!("{}: {error}", path.display()))
    }
}

/// A program inside may have set any time.
fn time(seconds: i64, nanoseconds: u64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
    Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
