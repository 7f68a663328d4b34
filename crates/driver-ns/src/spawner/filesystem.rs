//! The sandbox's file system: an overlay of its layers and its own volume, with a `/dev`, `/proc` and `/sys` that show nothing of the host.
//!
//! What needs a view of the host is made first and mounted nowhere; then the overlay becomes the root, and only from there on are paths
//! followed, so that a link in an image or in a fork's files leads nowhere but inside.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat};
use rustix::io::Errno;
use skerry_sys::mount::{self, Attributes};

use super::laps::Laps;
use super::message::{Failure, Request};
use super::trees::{Trees, restrictions};

const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEV_LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/kcore", "/dev/core"),
];
/// Facts about the host and its kernel's memory, and triggers: shown empty.
const HIDDEN: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
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

/// What is made before the host is out of sight.
struct Prepared {
    dev: OwnedFd,
    nodes: Vec<OwnedFd>,
    pts: OwnedFd,
    shm: OwnedFd,
    proc: OwnedFd,
    sys: OwnedFd,
}

/// Builds it and enters it. With a `proc` of the host's, that one is shown until [`renew_proc`].
pub(crate) fn build(
    request: &Request,
    trees: &Trees,
    proc: Option<&OwnedFd>,
    laps: &mut Laps,
) -> Result<(), Failure> {
    mount::make_private().map_err(Failure::at("make mounts private"))?;
    stage(trees).map_err(Failure::at("lay out the layers"))?;
    let is_written = write_ahead(request, trees).map_err(Failure::at("write into the volume"))?;
    laps.lap("layout");
    let root = overlay(request, trees).map_err(Failure::at("mount the overlay"))?;
    laps.lap("overlay");
    let prepared = prepare(request, proc).map_err(Failure::at("make /dev, /proc and /sys"))?;
    laps.lap("dev, proc, sys");
    enter(&root).map_err(Failure::at("enter the new root"))?;
    laps.lap("pivot");
    fill_dev(&prepared).map_err(Failure::at("fill /dev"))?;
    laps.lap("fill dev");
    fill_proc(&prepared, proc.is_none()).map_err(Failure::at("mask /proc"))?;
    laps.lap("mask proc");
    for (bind, tree) in request.binds.iter().zip(&trees.binds) {
        place(tree, &bind.target)
            .map_err(Failure::at(format!("bind {}", bind.target.display())))?;
    }
    for (mount, tree) in request.shared.iter().zip(&trees.shared) {
        place_shared(tree, &mount.target)
            .map_err(Failure::at(format!("mount {}", mount.target.display())))?;
    }
    if !is_written {
        for (path, content) in &request.files {
            write_file(Path::new(path), content).map_err(Failure::at(format!("write {path}")))?;
        }
    }
    laps.lap("binds, etc");
    Ok(())
}

/// Mounts layers and volume side by side in a nameless folder, where short names keep the overlay's options short.
///
/// The folder goes away with the host's root. It must not lie on that root itself: then only it would.
fn stage(trees: &Trees) -> io::Result<()> {
    let options = [("mode", Some("700")), ("size", Some("64k"))];
    let stage = mount::new("tmpfs", &options, Attributes::NONE)?;
    // Anywhere but over the root: a root that is covered is no longer the one that a pivot lets go of.
    mount::attach(stage.as_fd(), Path::new("/sys"))?;
    rustix::process::fchdir(&stage)?;
    // The lowest of all is empty: an image may have no layer, an overlay must.
    fs::create_dir("empty")?;
    for (number, tree) in trees.layers.iter().enumerate() {
        let name = number.to_string();
        fs::create_dir(&name)?;
        mount::attach(tree.as_fd(), Path::new(&name))?;
    }
    fs::create_dir("volume")?;
    mount::attach(trees.volume.as_fd(), Path::new("volume"))?;
    // Of a start that was broken off: no volatile overlay takes over the work of another.
    match fs::remove_dir_all("volume/work/work") {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::create_dir("root"),
    }
}

/// Writes the system's files into a volume that is still empty and lies over nothing, so that nothing need be copied up first.
///
/// `false`: there is something in it, or the layers' `/etc` is not what a new folder would be.
fn write_ahead(request: &Request, trees: &Trees) -> io::Result<bool> {
    let upper = Path::new("volume/upper");
    let is_plain = |number: usize| match fs::symlink_metadata(format!("{number}/etc")) {
        Ok(etc) => etc.is_dir() && etc.mode() & 0o7777 == 0o755 && (etc.uid(), etc.gid()) == (0, 0),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    if fs::read_dir(upper)?.next().is_some() || !(0..trees.layers.len()).all(is_plain) {
        return Ok(false);
    }
    for (path, content) in &request.files {
        write_file(&upper.join(path.trim_start_matches('/')), content)?;
    }
    Ok(true)
}

fn overlay(request: &Request, trees: &Trees) -> io::Result<OwnedFd> {
    let lower: Vec<String> = (0..trees.layers.len())
        .rev()
        .map(|n| n.to_string())
        .collect();
    let lower = if lower.is_empty() {
        "empty".to_owned()
    } else {
        lower.join(":")
    };
    let options = [
        ("lowerdir", Some(lower.as_str())),
        ("upperdir", Some("volume/upper")),
        ("workdir", Some("volume/work")),
        ("userxattr", None),
        // Nothing in a sandbox outlives the machine. Otherwise the end of each would write out everybody's files.
        ("volatile", None),
    ];
    mount::new("overlay", &options, restrictions(request.privilege))
}

fn prepare(request: &Request, proc: Option<&OwnedFd>) -> io::Result<Prepared> {
    let quiet = Attributes::NO_SUID.and(Attributes::NO_EXEC);
    let quiet_files = quiet.and(Attributes::NO_DEV);
    let shm_size = request.shm_bytes.to_string();
    let shm = [("mode", Some("1777")), ("size", Some(shm_size.as_str()))];
    let mut pts = vec![("ptmxmode", Some("0666")), ("mode", Some("0620"))];
    if request.first_id.is_some() {
        pts.push(("gid", Some("5")));
    }
    let small = [("mode", Some("755")), ("size", Some("64k"))];
    let empty = [("mode", Some("555")), ("size", Some("4k"))];
    let read_only = quiet_files.and(Attributes::READ_ONLY);
    Ok(Prepared {
        dev: mount::new("tmpfs", &small, quiet)?,
        nodes: (NODES.iter())
            .map(|node| mount::copy(&Path::new("/dev").join(node)))
            .collect::<io::Result<_>>()?,
        pts: mount::new("devpts", &pts, quiet)?,
        shm: mount::new("tmpfs", &shm, quiet_files)?,
        proc: proc.map_or_else(own_proc, OwnedFd::try_clone)?,
        sys: mount::new("tmpfs", &empty, read_only)?,
    })
}

fn enter(root: &OwnedFd) -> io::Result<()> {
    mount::attach(root.as_fd(), Path::new("root"))?;
    rustix::process::fchdir(root)?;
    mount::enter_root()
}

fn fill_dev(prepared: &Prepared) -> io::Result<()> {
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
    place(&prepared.shm, Path::new("/dev/shm"))
}

/// Shows the processes of the namespace that the caller is in, and no longer those that were shown before.
pub(crate) fn renew_proc() -> io::Result<()> {
    // As long as the other one is there: what shows less than one that is there already can always be mounted.
    let proc = own_proc()?;
    mount::detach(Path::new("/proc"))?;
    place(&proc, Path::new("/proc"))?;
    mask_proc()
}

fn own_proc() -> io::Result<OwnedFd> {
    let quiet_files = Attributes::NO_SUID.and(Attributes::NO_EXEC);
    mount::new("proc", &[], quiet_files.and(Attributes::NO_DEV))
}

fn fill_proc(prepared: &Prepared, masked: bool) -> io::Result<()> {
    place(&prepared.proc, Path::new("/proc"))?;
    place(&prepared.sys, Path::new("/sys"))?;
    if masked { mask_proc() } else { Ok(()) }
}

fn mask_proc() -> io::Result<()> {
    for path in HIDDEN.map(Path::new) {
        let Some(is_dir) = kind(path)? else {
            continue;
        };
        let cover = if is_dir {
            // Empty and read-only, as wanted.
            mount::copy(Path::new("/sys"))?
        } else {
            mount::copy(Path::new("/dev/null"))?
        };
        mount::attach(cover.as_fd(), path)?;
    }
    for path in READ_ONLY.map(Path::new) {
        if kind(path)?.is_some() {
            let same = mount::copy(path)?;
            mount::restrict(same.as_fd(), Attributes::READ_ONLY, None)?;
            mount::attach(same.as_fd(), path)?;
        }
    }
    Ok(())
}

/// Is it a folder? `None`: it is not there.
fn kind(path: &Path) -> io::Result<Option<bool>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.is_dir())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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

/// The same, but through no link that an image or a fork's files have on the way: whoever writes to the volume knows where it is.
fn place_shared(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::open("/", flags, Mode::empty())?;
    for part in path.iter().skip(1) {
        match mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = rustix::fs::openat(&at, part, flags, Mode::empty())?;
    }
    mount::attach_at(tree.as_fd(), at.as_fd())
}

/// Writes a file of the system's, whatever was there before: a link too, which is replaced and not followed.
fn write_file(path: &Path, content: &str) -> io::Result<()> {
    let open = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        options.open(path)
    };
    let mut file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            open()?
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            fs::remove_file(path)?;
            open()?
        }
        done => done?,
    };
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content.as_bytes())
}
