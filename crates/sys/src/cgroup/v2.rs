//! Version 2: one tree, in which a group may have processes or groups below it with controllers, not both.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::files::{self, keyed, number, read_if_there, write, write_if_there};
use super::mounts::{Tree, own_v2_group};
use super::{Limits, Usage};

const NEEDED: [&str; 3] = ["memory", "cpu", "pids"];
const CPU_PERIOD_US: u64 = 100_000;

/// The parent in the v2 tree; `None` if the tree is not there or its controllers sit on version 1.
pub(super) fn parent(mounts: &[Tree], parent: &str) -> io::Result<Option<PathBuf>> {
    let Some(tree) = mounts.iter().find(|tree| tree.v2) else {
        return Ok(None);
    };
    if !has_controllers(&tree.at)? {
        return Ok(None);
    }
    let base = base(&tree.at)?;
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

/// The root of the tree, or what was delegated to an ordinary user: the group above the one this process was put in.
fn base(root: &Path) -> io::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(root.to_owned());
    }
    let own = own_v2_group()?.unwrap_or_default();
    let own = root.join(own);
    Ok(own.parent().map_or(root.to_owned(), Path::to_owned))
}

fn has_controllers(group: &Path) -> io::Result<bool> {
    let text = read_if_there(&group.join("cgroup.controllers"))?;
    Ok(NEEDED
        .iter()
        .all(|c| text.split_whitespace().any(|t| t == *c)))
}

fn delegate(group: &Path) -> io::Result<()> {
    write(group, "cgroup.subtree_control", "+memory +cpu +pids")
}

pub(super) fn limit(folder: &Path, limits: Limits) -> io::Result<()> {
    write(folder, "memory.max", &limits.memory_bytes.to_string())?;
    write_if_there(folder, "memory.swap.max", "0")?;
    let quota = limits.cpu_milli * CPU_PERIOD_US / 1000;
    write(folder, "cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
    write(folder, "pids.max", &limits.pids.to_string())
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
        oom_kills: keyed(folder, "memory.events", "oom_kill")?,
    };
    Ok(usage.without_cache(keyed(folder, "memory.stat", "inactive_file")?))
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
