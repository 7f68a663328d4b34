//! Mounts through descriptors: made detached, given their attributes, and only then put somewhere.
#![expect(unsafe_code, reason = "mount_setattr has no safe interface")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};

/// What a mount does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(MountAttrFlags);

impl Attributes {
    /// Everything is allowed.
    pub const NONE: Self = Self(MountAttrFlags::empty());
    /// No writing.
    pub const READ_ONLY: Self = Self(MountAttrFlags::MOUNT_ATTR_RDONLY);
    /// Set-uid bits and file capabilities mean nothing.
    pub const NO_SUID: Self = Self(MountAttrFlags::MOUNT_ATTR_NOSUID);
    /// Device nodes do not open.
    pub const NO_DEV: Self = Self(MountAttrFlags::MOUNT_ATTR_NODEV);
    /// Nothing is executed.
    pub const NO_EXEC: Self = Self(MountAttrFlags::MOUNT_ATTR_NOEXEC);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.union(other.0))
    }
}

/// A new file system of this kind with these options, mounted nowhere yet. An option without a value is a flag.
pub fn new(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(fs.as_fd(), *key, *value)?,
            None => fsconfig_set_flag(fs.as_fd(), *key)?,
        }
    }
    fsconfig_create(fs.as_fd())?;
    Ok(fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes.0,
    )?)
}

/// A copy of the one mount that shows `path`, from there on down, mounted nowhere yet. What is mounted below it does not come along.
pub fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, path, flags)?)
}

/// Adds restrictions to a detached mount, and shows its owners as `users` numbers them.
pub fn restrict(
    tree: BorrowedFd<'_>,
    attributes: Attributes,
    users: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    // SAFETY: all-zero is a valid `mount_attr`.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = u64::from(attributes.0.bits());
    if let Some(users) = users {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = users.as_raw_fd() as u64;
    }
    // SAFETY: both pointers live for the call, and the size is the structure's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Puts a detached mount at `path`.
pub fn attach(tree: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree, "", CWD, path, flags)?)
}

/// Puts a detached mount at the folder that is open here.
pub fn attach_at(tree: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", folder, "", flags)?)
}

/// Moves what is mounted at `from`, and all below it, to `to`. The last part of neither path is followed if it is a link.
pub fn shift(from: &Path, to: &Path) -> io::Result<()> {
    Ok(move_mount(CWD, from, CWD, to, MoveMountFlags::empty())?)
}

/// Takes away what is mounted at `path`; who has it open keeps it.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(unmount(path, UnmountFlags::DETACH)?)
}

/// Nothing mounted here shows elsewhere from now on, nor the other way round.
pub fn make_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", flags)?)
}

/// Makes the current directory, a mount, the root of this process and its namespace, and lets go of all the old one had.
pub fn enter_root() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    let (root, above) = (rustix::fs::stat("/")?, rustix::fs::stat("/..")?);
    if (root.st_dev, root.st_ino) != (above.st_dev, above.st_ino) {
        return Err(io::Error::other("the old root is still there"));
    }
    Ok(())
}

/// Gives the calling thread, and what it starts from now on, a mount namespace of its own, from which nothing shows on the host.
pub fn own_namespace() -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    make_private()
}
