//! The sandbox's file system: an overlay of its layers and its own volume, with a `/dev`, `/proc` and `/sys` that show nothing of the host.
//!
//! Those three are the same in every sandbox, so they are made before it is known which one this is. What needs a view of the host is made
//! where no image is; then the overlay becomes the root, and only from there on are paths followed, so that a link in an image or in a
//! fork's files leads nowhere but inside.

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
/// The folders of what is laid out.
const STAGE: [&str; 6] = ["dev", "proc", "sys", "empty", "volume", "root"];
/// Of these what is already laid out goes into the root.
const LAID_OUT: [&str; 3] = ["dev", "proc", "sys"];
/// Of one sandbox; the kernel has some thousands for the whole host.
const MAX_TERMINALS: &str = "128";
const DEV_LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("pts/ptmx", "dev/ptmx"),
    ("/proc/kcore", "dev/core"),
];
/// Facts about the host and its kernel's memory, and triggers: shown empty.
const HIDDEN: [&str; 11] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/key-users",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
];
/// Settings: shown, and never written.
const READ_ONLY: [&str; 6] = [
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
    "proc/pressure",
];

/// Lays out, in a nameless folder that becomes the current one, what every sandbox has. With a `proc` of the host's, that one is shown until
/// [`renew_proc`].
pub(crate) fn lay_out(
    has_ids: bool,
    proc: Option<&OwnedFd>,
    laps: &mut Laps,
) -> Result<(), Failure> {
    mount::make_private().map_err(Failure::at("make mounts private"))?;
    stage().map_err(Failure::at("make a folder to lay out in"))?;
    laps.lap("stage");
    lay_dev(has_ids).map_err(Failure::at("make /dev"))?;
    laps.lap("dev");
    lay_proc(proc).map_err(Failure::at("make /proc and /sys"))?;
    laps.lap("proc, sys");
    Ok(())
}

/// Builds it of what was laid out, and enters it.
pub(crate) fn build(request: &Request, trees: &Trees, laps: &mut Laps) -> Result<(), Failure> {
    lay_layers(trees).map_err(Failure::at("lay out the layers"))?;
    let is_written = write_ahead(request, trees).map_err(Failure::at("write into the volume"))?;
    laps.lap("layers, etc");
    overlay(request, trees).map_err(Failure::at("mount the overlay"))?;
    laps.lap("overlay");
    enter().map_err(Failure::at("enter the new root"))?;
    laps.lap("pivot");
    share_memory(request.shm_bytes).map_err(Failure::at("make /dev/shm"))?;
    for (bind, tree) in request.binds.iter().zip(&trees.binds) {
        place(tree, &bind.target)
            .map_err(Failure::at(format!("bind {}", bind.target.display())))?;
    }
    for (mount, tree) in request.shared.iter().zip(&trees.shared) {
        place_shared(tree, &mount.target).map_err(Failure::at(format!(
            "mount a volume at {}",
            mount.target.display()
        )))?;
    }
    if !is_written {
        for (path, content) in &request.files {
            write_file(Path::new(path), content).map_err(Failure::at(format!("write {path}")))?;
        }
    }
    laps.lap("shm, binds");
    Ok(())
}

/// Makes the folder. Its short names keep the overlay's options short, and it goes away with the host's root.
///
/// It must not lie on that root itself: then only it would.
fn stage() -> io::Result<()> {
    let options = [("mode", Some("700")), ("size", Some("64k"))];
    let stage = mount::new("tmpfs", &options, Attributes::NONE)?;
    // Anywhere but over the root: a root that is covered is no longer the one that a pivot lets go of.
    mount::attach(stage.as_fd(), Path::new("/sys"))?;
    rustix::process::fchdir(&stage)?;
    // The lowest of all layers is empty: an image may have none, an overlay must.
    STAGE.iter().try_for_each(fs::create_dir)
}

fn lay_dev(has_ids: bool) -> io::Result<()> {
    let quiet = Attributes::NO_SUID.and(Attributes::NO_EXEC);
    let small = [("mode", Some("755")), ("size", Some("64k"))];
    let mut pts = vec![
        ("ptmxmode", Some("0666")),
        ("mode", Some("0620")),
        ("max", Some(MAX_TERMINALS)),
    ];
    if has_ids {
        pts.push(("gid", Some("5")));
    }
    let dev = mount::new("tmpfs", &small, quiet)?;
    mount::attach(dev.as_fd(), Path::new("dev"))?;
    for name in NODES {
        let node = mount::copy(&Path::new("/dev").join(name))?;
        let path = Path::new("dev").join(name);
        fs::File::create(&path)?;
        mount::attach(node.as_fd(), &path)?;
    }
    for (target, link) in DEV_LINKS {
        symlink(target, link)?;
    }
    fs::create_dir("dev/shm")?;
    place(&mount::new("devpts", &pts, quiet)?, Path::new("dev/pts"))
}

fn lay_proc(proc: Option<&OwnedFd>) -> io::Result<()> {
    let empty = [("mode", Some("555")), ("size", Some("4k"))];
    let sys = mount::new("tmpfs", &empty, quiet_files().and(Attributes::READ_ONLY))?;
    mount::attach(sys.as_fd(), Path::new("sys"))?;
    if let Some(proc) = proc {
        return mount::attach(proc.as_fd(), Path::new("proc"));
    }
    mount::attach(own_proc()?.as_fd(), Path::new("proc"))?;
    mask_proc(Path::new(""))
}

fn quiet_files() -> Attributes {
    let quiet = Attributes::NO_SUID.and(Attributes::NO_EXEC);
    quiet.and(Attributes::NO_DEV)
}

/// Mounts layers and volume side by side.
fn lay_layers(trees: &Trees) -> io::Result<()> {
    for (number, tree) in trees.layers.iter().enumerate() {
        let name = number.to_string();
        fs::create_dir(&name)?;
        mount::attach(tree.as_fd(), Path::new(&name))?;
    }
    mount::attach(trees.volume.as_fd(), Path::new("volume"))?;
    // Of a start that was broken off: no volatile overlay takes over the work of another.
    match fs::remove_dir_all("volume/work/work") {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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

fn overlay(request: &Request, trees: &Trees) -> io::Result<()> {
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
    let root = mount::new("overlay", &options, restrictions(request.privilege))?;
    mount::attach(root.as_fd(), Path::new("root"))
}

/// Moves what is laid out into the overlay, and makes that the root.
fn enter() -> io::Result<()> {
    for name in LAID_OUT {
        move_in(name)?;
    }
    rustix::process::chdir("root")?;
    mount::enter_root()
}

/// One name below a folder of ours: no link of an image is on the way, and none is followed at its end.
fn move_in(name: &str) -> io::Result<()> {
    let target = Path::new("root").join(name);
    match mount::shift(Path::new(name), &target) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir(&target)?;
            mount::shift(Path::new(name), &target)
        }
        done => done,
    }
}

fn share_memory(bytes: u64) -> io::Result<()> {
    let size = bytes.to_string();
    let options = [("mode", Some("1777")), ("size", Some(size.as_str()))];
    let shm = mount::new("tmpfs", &options, quiet_files())?;
    mount::attach(shm.as_fd(), Path::new("/dev/shm"))
}

/// Shows the processes of the namespace that the caller is in, and no longer those that were shown before.
pub(crate) fn renew_proc() -> io::Result<()> {
    // As long as the other one is there: what shows less than one that is there already can always be mounted.
    let proc = own_proc()?;
    mount::detach(Path::new("/proc"))?;
    place(&proc, Path::new("/proc"))?;
    mask_proc(Path::new("/"))
}

fn own_proc() -> io::Result<OwnedFd> {
    mount::new("proc", &[], quiet_files())
}

/// Covers what of `proc` below `root` shows or changes the host, and needs the empty `sys` beside it for that.
fn mask_proc(root: &Path) -> io::Result<()> {
    for path in HIDDEN.map(|path| root.join(path)) {
        let Some(is_dir) = kind(&path)? else {
            continue;
        };
        // Both empty and read-only, or as good as that.
        let cover = if is_dir { "sys" } else { "dev/null" };
        mount::attach(mount::copy(&root.join(cover))?.as_fd(), &path)?;
    }
    for path in READ_ONLY.map(|path| root.join(path)) {
        if kind(&path)?.is_some() {
            let same = mount::copy(&path)?;
            mount::restrict(same.as_fd(), Attributes::READ_ONLY, None)?;
            mount::attach(same.as_fd(), &path)?;
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
