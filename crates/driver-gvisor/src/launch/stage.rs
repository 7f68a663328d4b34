//! What a sandbox's files are made of, mounted where only this mount namespace sees it: its layers and volume as one tree, the host's folders
//! that it is shown, and the agent's.
//!
//! Each tree is shown with the sandbox's own ids. The gofer, which opens files for the sandbox, is root in a user namespace of those ids, and
//! can reach no folder of the host that is closed to others; so the stage is a folder that is not.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use skerry_driver::{Privilege, VolumeMount};
use skerry_sys::mount::{self, Attributes};

use super::Needs;
use super::failure::Failure;
use super::overlay::Root;

/// A folder that is there on every machine and that `runsc` does not need.
const STAGE: &str = "/dev/shm";
/// Where recent kernels show what `runsc` takes as the sign of the host's own network.
const HOST_NETWORK_SIGN: &str = "/proc/sys/net/core";
/// Where `runsc` reads how much memory there is.
const MEMORY: &str = "/proc/meminfo";

/// The root of the sandbox.
pub(crate) fn root() -> PathBuf {
    Path::new(STAGE).join("root")
}

/// A folder of the host that is shown inside.
pub(crate) fn bind(number: usize) -> PathBuf {
    Path::new(STAGE).join(format!("bind-{number}"))
}

/// A volume that is shown inside.
pub(crate) fn volume(number: usize) -> PathBuf {
    Path::new(STAGE).join(format!("volume-{number}"))
}

/// The folder that is shown to the agent.
pub(crate) fn inside() -> PathBuf {
    Path::new(STAGE).join("inside")
}

/// Volumes go where the sandbox's files have a folder or nothing yet, and through no link of theirs: whoever writes to one knows where it is.
pub(super) fn check(needs: &Needs, made: &Root) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let confined = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    for VolumeMount { target, .. } in &needs.shared {
        match openat2(&made.tree, target, flags, Mode::empty(), confined) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => {
                let step = format!("mount a volume at {}", target.display());
                return Err(Failure::at(step)(error));
            }
        }
    }
    Ok(())
}

/// Mounts all of it.
pub(super) fn set(needs: &Needs, made: &Root) -> Result<(), Failure> {
    mount::own_namespace().map_err(Failure::at("make a mount namespace"))?;
    cover(STAGE).map_err(Failure::at("set up a stage"))?;
    if needs.network.is_some() {
        cover(HOST_NETWORK_SIGN).map_err(Failure::at("hide the host's network settings"))?;
    }
    show_memory(needs.memory_bytes).map_err(Failure::at("tell the memory limit"))?;
    attach(&made.tree, &root()).map_err(Failure::at("show the root"))?;
    let read_only = restrictions(needs.privilege).and(Attributes::READ_ONLY);
    for (number, bound) in needs.binds.iter().enumerate() {
        let failed = Failure::at(format!("show {} inside", bound.source.display()));
        shown(&bound.source, read_only, Some(made.users.as_fd()))
            .and_then(|tree| attach(&tree, &bind(number)))
            .map_err(failed)?;
    }
    let shared = Attributes::NO_DEV.and(Attributes::NO_SUID);
    for (number, mounted) in needs.shared.iter().enumerate() {
        shown(&mounted.source, shared, Some(made.users.as_fd()))
            .and_then(|tree| attach(&tree, &volume(number)))
            .map_err(Failure::at("show a volume inside"))?;
    }
    // Its owner is the sandbox's already.
    shown(&needs.inside, read_only, None)
        .and_then(|tree| attach(&tree, &inside()))
        .map_err(Failure::at("show the agent inside"))
}

/// What no file system of a sandbox of this level allows.
pub(super) fn restrictions(privilege: Privilege) -> Attributes {
    match privilege {
        Privilege::Restricted => Attributes::NO_DEV.and(Attributes::NO_SUID),
        Privilege::Root => Attributes::NO_DEV,
    }
}

/// A folder or a file of the host with the ids of `users`. Where its file system cannot show other ids it keeps its own.
pub(super) fn shown(
    source: &Path,
    attributes: Attributes,
    users: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let tree = mount::copy(source)?;
    let cannot = Some(Errno::INVAL.raw_os_error());
    match mount::restrict(tree.as_fd(), attributes, users) {
        Err(error) if users.is_some() && error.raw_os_error() == cannot => {
            mount::restrict(tree.as_fd(), attributes, None)?;
        }
        done => done?,
    }
    Ok(tree)
}

fn cover(path: &str) -> io::Result<()> {
    let small = [("mode", Some("755")), ("size", Some("64k"))];
    let tmpfs = mount::new("tmpfs", &small, Attributes::NONE)?;
    mount::attach(tmpfs.as_fd(), Path::new(path))
}

fn show_memory(bytes: u64) -> io::Result<()> {
    let file = Path::new(STAGE).join("memory");
    fs::write(&file, format!("MemTotal: {} kB\n", bytes / 1024))?;
    mount::attach(mount::copy(&file)?.as_fd(), Path::new(MEMORY))
}

fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    if FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode).is_dir() {
        fs::create_dir(target)?;
    } else {
        fs::File::create(target)?;
    }
    mount::attach(tree.as_fd(), target)
}
