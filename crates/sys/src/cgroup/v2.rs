//! Version 2: one tree, in which a group may have processes or groups below it with controllers, not both.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::Access;

use super::files::{self, keyed, number, read_if_there, write, write_if_there};
use super::mounts::{Tree, own_v2_group};
use super::{Limits, Usage};

const NEEDED: [&str; 3] = ["memory", "cpu", "pids"];
/// Divides the disk evenly between groups that compete for it, where the kernel offers that.
const WELCOME: &str = "io";
const CPU_PERIOD_US: u64 = 100_000;
const WEIGHT_OF_A_CPU: u64 = 100;
const MAX_WEIGHT: u64 = 10_000;
/// Where processes go that stand where groups are to be made.
const REST: &str = "skerry-rest";
const NOT_DELEGATED: &str = "no control group is delegated to this user (systemd-run --user --scope -p Delegate=yes starts a program in one)";

/// The parent in the v2 tree; `None` if the tree is not there or its controllers sit on version 1.
pub(super) fn parent(mounts: &[Tree], parent: &str) -> io::Result<Option<PathBuf>> {
    let Some(base) = base(mounts)? else {
        return Ok(None);
    };
    let folder = base.join(parent);
    files::make_own(&folder)?;
    // From the base down to the parent, so that what is made in the parent has the controllers.
    let mut level = base;
    delegate(&level)?;
    for name in Path::new(parent).components() {
        level.push(name);
        delegate(&level)?;
    }
    Ok(Some(folder))
}

/// The highest group of those this process is in that belongs to it: the root of the tree, or what was delegated to its user.
///
/// Groups made there last when the one that this process was started in goes. `None`: the controllers are not on this version.
pub(super) fn base(mounts: &[Tree]) -> io::Result<Option<PathBuf>> {
    let Some(tree) = mounts.iter().find(|tree| tree.v2) else {
        return Ok(None);
    };
    if missing(&tree.at)?.is_some() {
        return Ok(None);
    }
    let own = tree.at.join(own_v2_group()?.unwrap_or_default());
    let mut all: Vec<&Path> = own.ancestors().collect();
    all.reverse();
    let base = (all.into_iter())
        .filter(|group| group.starts_with(&tree.at))
        .find(|group| is_ours(group))
        .ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, NOT_DELEGATED))?;
    match missing(base)? {
        None => Ok(Some(base.to_owned())),
        Some(controller) => {
            let text = format!("{} has no controller {controller}", base.display());
            Err(io::Error::other(text))
        }
    }
}

fn is_ours(group: &Path) -> bool {
    ["cgroup.procs", "cgroup.subtree_control"]
        .iter()
        .all(|file| rustix::fs::access(group.join(file), Access::WRITE_OK).is_ok())
}

/// A controller that a group cannot give to those below it.
fn missing(group: &Path) -> io::Result<Option<&'static str>> {
    let there = read_if_there(&group.join("cgroup.controllers"))?;
    Ok(NEEDED.into_iter().find(|needed| !has(&there, needed)))
}

fn has(controllers: &str, name: &str) -> bool {
    controllers.split_whitespace().any(|word| word == name)
}

/// Gives the controllers to the groups below this one, as far as that is not so yet.
fn delegate(group: &Path) -> io::Result<()> {
    let given = read_if_there(&group.join("cgroup.subtree_control"))?;
    let offered = read_if_there(&group.join("cgroup.controllers"))?;
    for name in NEEDED {
        if !has(&given, name) {
            give(group, name)?;
        }
    }
    if has(&offered, WELCOME) && !has(&given, WELCOME) {
        // Some kernels say no for some disks; it is no promise.
        let _without = give(group, WELCOME);
    }
    Ok(())
}

fn give(group: &Path, controller: &str) -> io::Result<()> {
    let line = format!("+{controller}");
    match write(group, "cgroup.subtree_control", &line) {
        // Only below the root of the machine, and then with nobody in it but what was started with this process.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            vacate(group)?;
            write(group, "cgroup.subtree_control", &line)
        }
        done => done,
    }
}

/// Moves the processes of a group into one below it.
fn vacate(group: &Path) -> io::Result<()> {
    let rest = group.join(REST);
    files::make(&rest)?;
    for pid in read_if_there(&group.join("cgroup.procs"))?.lines() {
        match fs::write(rest.join("cgroup.procs"), pid) {
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            done => done?,
        }
    }
    Ok(())
}

pub(super) fn limit(folder: &Path, limits: Limits) -> io::Result<()> {
    write(folder, "memory.max", &limits.memory_bytes.to_string())?;
    // Without swap accounting there is no such file.
    write_if_there(folder, "memory.swap.max", "0")?;
    let quota = limits.cpu_milli * CPU_PERIOD_US / 1000;
    write(folder, "cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
    // When processors are scarce, each gets by what it was promised.
    let weight = (limits.cpu_milli * WEIGHT_OF_A_CPU / 1000).clamp(1, MAX_WEIGHT);
    write(folder, "cpu.weight", &weight.to_string())?;
    write(folder, "pids.max", &limits.pids.to_string())
}

/// Kills all that is in it, also what is just being forked. `false`: this kernel cannot, being older than 5.14.
pub(super) fn kill(folder: &Path) -> io::Result<bool> {
    match write(folder, "cgroup.kill", "1") {
        // The file, or the group, is not there: nothing else would find more.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(!folder.exists()),
        done => done.map(|()| true),
    }
}

pub(super) fn folder(folder: &Path) -> io::Result<OwnedFd> {
    Ok(fs::File::open(folder)?.into())
}

pub(super) fn usage(folder: &Path) -> io::Result<Usage> {
    let current = number(folder, "memory.current")?;
    let usage = Usage {
        cpu_us: keyed(folder, "cpu.stat", "usage_usec")?,
        memory_bytes: current,
        // Before Linux 5.19 nobody counted it.
        memory_peak_bytes: number(folder, "memory.peak").unwrap_or(current),
        pids: number(folder, "pids.current")?,
        oom_kills: oom_kills(folder)?,
    };
    Ok(usage.without_cache(keyed(folder, "memory.stat", "inactive_file")?))
}

pub(super) fn oom_kills(folder: &Path) -> io::Result<u64> {
    keyed(folder, "memory.events", "oom_kill")
}

pub(super) fn dirty_bytes(folder: &Path) -> io::Result<u64> {
    keyed(folder, "memory.stat", "file_dirty")
}

pub(super) fn set_frozen(folder: &Path, frozen: bool) -> io::Result<()> {
    write(folder, "cgroup.freeze", if frozen { "1" } else { "0" })
}

pub(super) fn is_frozen(folder: &Path) -> io::Result<bool> {
    Ok(keyed(folder, "cgroup.events", "frozen")? == 1)
}
