//! Where things are: `volumes/` whole ones, `shared/` what outlives sandboxes, `staging/` half-made ones, `trash/` half-removed ones.
//!
//! A volume appears in `volumes/` and leaves it by one rename or one deletion, so a crash at any point leaves whole volumes only, and the rest is
//! rubbish that [`Layout::open`] finds.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Uid, chownat, mkdirat, openat, renameat_with,
};
use skerry_types::{SandboxId, VolumeId};

use crate::error::StorageError;

/// Folders on the way to a volume: any user may pass, none may look around.
const PASS_ONLY: u32 = 0o711;
const VOLUME_MODE: u32 = 0o755;
const SHARED: &str = "shared";

/// The folders of the store, open.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) volumes: File,
    pub(crate) shared: File,
    pub(crate) staging: File,
    pub(crate) trash: File,
}

/// The writable layer of one sandbox, as an overlay mount wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    id: SandboxId,
    path: PathBuf,
}

impl Volume {
    /// Whose it is.
    pub fn id(&self) -> SandboxId {
        self.id
    }

    /// The folder that holds the two below.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The overlay's upper folder: all that the sandbox has written.
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// The overlay's work folder, on the same file system.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }
}

impl Layout {
    pub(crate) fn open(root: &Path) -> Result<Self, StorageError> {
        let volumes = folder(&root.join("volumes"))?;
        let shared = folder(&root.join(SHARED))?;
        let staging = folder(&root.join("staging"))?;
        let trash = folder(&root.join("trash"))?;
        let root = root.to_owned();
        Ok(Self {
            root,
            volumes,
            shared,
            staging,
            trash,
        })
    }

    pub(crate) fn volume(&self, id: SandboxId) -> Volume {
        let path = self.root.join("volumes").join(id.label());
        Volume { id, path }
    }

    /// Where a volume is while it is made.
    pub(crate) fn staged(&self, id: SandboxId) -> PathBuf {
        self.root.join("staging").join(id.label())
    }

    /// The folder of a whole volume, open; `NotFound` where there is none.
    pub(crate) fn open_volume(&self, id: SandboxId) -> io::Result<File> {
        open_folder(&self.volumes, id.label())
    }

    /// Makes a finished volume visible, by one rename.
    pub(crate) fn publish(&self, id: SandboxId) -> io::Result<Volume> {
        self.publish_in(&self.volumes, &id.label())?;
        Ok(self.volume(id))
    }

    /// The ids of all whole volumes.
    pub(crate) fn ids(&self) -> io::Result<Vec<SandboxId>> {
        ids(&self.volumes, SandboxId::label)
    }

    /// Where a folder is that several sandboxes share.
    pub(crate) fn shared_path(&self, id: VolumeId) -> PathBuf {
        self.root.join(SHARED).join(id.label())
    }

    /// The ids of all of those.
    pub(crate) fn shared_ids(&self) -> io::Result<Vec<VolumeId>> {
        ids(&self.shared, VolumeId::label)
    }

    /// Takes it out of `staging/`.
    pub(crate) fn publish_in(&self, folder: &File, name: &str) -> io::Result<()> {
        Ok(renameat_with(
            &self.staging,
            name,
            folder,
            name,
            RenameFlags::NOREPLACE,
        )?)
    }
}

/// What has its label for a name in a folder.
fn ids<T: Copy + FromStr>(folder: &File, label: fn(T) -> String) -> io::Result<Vec<T>> {
    let mut ids = Vec::new();
    for name in names(folder)? {
        let id = name.to_str().and_then(|name| name.parse::<T>().ok());
        ids.extend(id.filter(|id| *label(*id) == *name));
    }
    Ok(ids)
}

/// An empty folder owned by `owner` (user, group), exactly as open as an overlay wants it whatever the umask.
pub(crate) fn make_folder(parent: &File, name: &str, owner: (u32, u32)) -> io::Result<()> {
    mkdirat(parent, name, Mode::from_raw_mode(VOLUME_MODE))?;
    dress(&open_folder(parent, name)?, owner)
}

/// Gives a folder its mode and owner.
pub(crate) fn dress(folder: &File, (uid, gid): (u32, u32)) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    chownat(folder, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    folder.set_permissions(fs::Permissions::from_mode(VOLUME_MODE))
}

/// Opens a folder by one name, never through a link.
pub(crate) fn open_folder(parent: &File, name: impl AsRef<OsStr>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name.as_ref(), flags, Mode::empty())?.into())
}

/// The names in a folder, without `.` and `..`.
pub(crate) fn names(folder: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Makes a folder of the store unless it is there, and opens it.
pub(crate) fn folder(path: &Path) -> Result<File, StorageError> {
    let open = || {
        match fs::create_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // A file system that is closed for writing has it as it should be already.
        if fs::metadata(path)?.permissions().mode() & 0o7777 != PASS_ONLY {
            fs::set_permissions(path, fs::Permissions::from_mode(PASS_ONLY))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
    };
    open().map_err(|source| StorageError::Folder {
        path: path.to_owned(),
        source,
    })
}
