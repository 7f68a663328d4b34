//! What the sandbox sees: an overlay of the base disk's layers and its own disk, with a `/dev`, `/proc` and `/sys` that show nothing of the machine.
//!
//! What is to be shown is made first and mounted nowhere; then the overlay becomes the root, and only from there on are paths followed.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use skerry_proto::guest::Start;
use skerry_sys::mount::{self, Attributes};

use crate::failure::Failure;
use crate::ground::BASE;

/// Where the sandbox's disk is.
pub(crate) const DISK: &str = "/disk";

const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEV_LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/kcore", "/dev/core"),
];
/// The kernel's memory, and triggers: shown empty.
const HIDDEN: [&str; 6] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/interrupts",
];
/// Settings: shown, and never written.
const READ_ONLY: [&str; 6] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/pressure",
];

/// What is made before the machine is out of sight.
struct Prepared {
    dev: OwnedFd,
    nodes: Vec<OwnedFd>,
    pts: OwnedFd,
    shm: OwnedFd,
    proc: OwnedFd,
    sys: OwnedFd,
}

/// Builds it and enters it. For a process in namespaces of its own.
pub(crate) fn enter(start: &Start) -> Result<(), Failure> {
    mount::make_private().map_err(Failure::at("make mounts private"))?;
    let root = overlay(start).map_err(Failure::at("mount the overlay"))?;
    let prepared = prepare(start).map_err(Failure::at("make /dev, /proc and /sys"))?;
    let pivot = || {
        // Over anything but the root, which the pivot could not let go of then.
        mount::attach(root.as_fd(), Path::new(DISK))?;
        rustix::process::fchdir(&root)?;
        mount::enter_root()
    };
    pivot().map_err(Failure::at("enter the new root"))?;
    fill(&prepared).map_err(Failure::at("fill /dev, /proc and /sys"))
}

fn overlay(start: &Start) -> io::Result<OwnedFd> {
    let base = Path::new(BASE);
    let layers = (start.layers.iter().rev()).map(|layer| base.join(layer).display().to_string());
    let lower: Vec<String> = layers.collect();
    let (upper, work) = (format!("{DISK}/upper"), format!("{DISK}/work"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder)?;
    }
    let options = [
        ("lowerdir", Some(lower.join(":"))),
        ("upperdir", Some(upper)),
        ("workdir", Some(work)),
        ("userxattr", None),
    ];
    let options: Vec<_> = options
        .iter()
        .map(|(key, value)| (*key, value.as_deref()))
        .collect();
    mount::new("overlay", &options, restrictions(start))
}

/// What no file system of a sandbox of this level allows.
fn restrictions(start: &Start) -> Attributes {
    if start.level_root {
        Attributes::NO_DEV
    } else {
        Attributes::NO_DEV.and(Attributes::NO_SUID)
    }
}

fn prepare(start: &Start) -> io::Result<Prepared> {
    let quiet = Attributes::NO_SUID.and(Attributes::NO_EXEC);
    let quiet_files = quiet.and(Attributes::NO_DEV);
    let shm_size = (start.memory_bytes / 2).to_string();
    let shm = [("mode", Some("1777")), ("size", Some(shm_size.as_str()))];
    let pts = [
        ("ptmxmode", Some("0666")),
        ("mode", Some("0620")),
        ("gid", Some("5")),
    ];
    let small = [("mode", Some("755")), ("size", Some("64k"))];
    let empty = [("mode", Some("555")), ("size", Some("4k"))];
    Ok(Prepared {
        dev: mount::new("tmpfs", &small, quiet)?,
        nodes: (NODES.iter())
            .map(|node| mount::copy(&Path::new("/dev").join(node)))
            .collect::<io::Result<_>>()?,
        pts: mount::new("devpts", &pts, quiet)?,
        shm: mount::new("tmpfs", &shm, quiet_files)?,
        proc: mount::new("proc", &[], quiet_files)?,
        sys: mount::new("tmpfs", &empty, quiet_files.and(Attributes::READ_ONLY))?,
    })
}

fn fill(prepared: &Prepared) -> io::Result<()> {
    place(&prepared.dev, Path::new("/dev"))?;
    for (name, node) in NODES.iter().zip(&prepared.nodes) {
        let path = Path::new("/dev").join(name);
        fs::File::create(&path)?;
        mount::attach(node.as_fd(), &path)?;
    }
    for (target, link) in DEV_LINKS {
        symlink(target, link)?;
    }
    place(&prepared.pts, Path::new("/dev/pts"))?;
    place(&prepared.shm, Path::new("/dev/shm"))?;
    place(&prepared.proc, Path::new("/proc"))?;
    place(&prepared.sys, Path::new("/sys"))?;
    mask()
}

fn mask() -> io::Result<()> {
    for path in HIDDEN.map(Path::new) {
        let cover = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => mount::copy(Path::new("/sys"))?,
            Ok(_) => mount::copy(Path::new("/dev/null"))?,
            Err(_) => continue,
        };
        mount::attach(cover.as_fd(), path)?;
    }
    for path in READ_ONLY.map(Path::new).into_iter().filter(|p| p.exists()) {
        let same = mount::copy(path)?;
        mount::restrict(same.as_fd(), Attributes::READ_ONLY, None)?;
        mount::attach(same.as_fd(), path)?;
    }
    Ok(())
}

/// Mounts a tree at a folder that is made if it is missing.
fn place(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    match mount::attach(tree.as_fd(), path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path)?;
            mount::attach(tree.as_fd(), path)
        }
        done => done,
    }
}
