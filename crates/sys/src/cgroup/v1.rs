//! Version 1: a tree for each controller.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::files::{self, keyed, number, read_if_there, write, write_if_there};
use super::mounts::Tree;
use super::{Limits, Usage};

/// The controllers used, in the order in which their folders are kept.
pub(super) const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "freezer"];
const MEMORY: usize = 0;
const CPU: usize = 1;
const CPUACCT: usize = 2;
const PIDS: usize = 3;
const FREEZER: usize = 4;
const CPU_PERIOD_US: u64 = 100_000;
const SHARES_OF_A_CPU: u64 = 1024;

pub(super) fn parents(mounts: &[Tree], parent: &str) -> io::Result<Vec<PathBuf>> {
    let folder = |controller| {
        let folder = tree(mounts, controller)?.at.join(parent);
        files::make_own(&folder)?;
        Ok(folder)
    };
    CONTROLLERS.into_iter().map(folder).collect()
}

/// Could groups be made in every tree?
pub(super) fn look(mounts: &[Tree]) -> io::Result<()> {
    CONTROLLERS.into_iter().try_for_each(|controller| {
        let root = &tree(mounts, controller)?.at;
        rustix::fs::access(root, Access::WRITE_OK).map_err(|_| {
            let text = format!("this user may not make groups in {}", root.display());
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        })
    })
}

fn tree<'a>(mounts: &'a [Tree], controller: &str) -> io::Result<&'a Tree> {
    let has = |tree: &&Tree| tree.controllers.iter().any(|c| c == controller);
    let missing = || io::Error::other(format!("no control group controller `{controller}`"));
    mounts.iter().find(has).ok_or_else(missing)
}

pub(super) fn limit(folders: &[PathBuf], limits: Limits) -> io::Result<()> {
    let memory = limits.memory_bytes.to_string();
    write(&folders[MEMORY], "memory.limit_in_bytes", &memory)?;
    // Memory and swap together; without swap accounting there is no such file.
    write_if_there(&folders[MEMORY], "memory.memsw.limit_in_bytes", &memory)?;
    let quota = (limits.cpu_milli * CPU_PERIOD_US / 1000).to_string();
    let period = CPU_PERIOD_US.to_string();
    write(&folders[CPU], "cpu.cfs_period_us", &period)?;
    write(&folders[CPU], "cpu.cfs_quota_us", &quota)?;
    // When processors are scarce, each gets by what it was promised.
    let shares = (limits.cpu_milli * SHARES_OF_A_CPU / 1000).max(2);
    write(&folders[CPU], "cpu.shares", &shares.to_string())?;
    write(&folders[PIDS], "pids.max", &limits.pids.to_string())
}

/// Moving one's own and only thread is the one move that takes no global lock.
pub(super) fn tasks(folders: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    let open = |folder: &PathBuf| {
        let tasks = OpenOptions::new().write(true).open(folder.join("tasks"))?;
        Ok(tasks.into())
    };
    folders.iter().map(open).collect()
}

pub(super) fn usage(folders: &[PathBuf]) -> io::Result<Usage> {
    let memory = &folders[MEMORY];
    let usage = Usage {
        cpu_us: number(&folders[CPUACCT], "cpuacct.usage")? / 1000,
        memory_bytes: number(memory, "memory.usage_in_bytes")?,
        memory_peak_bytes: number(memory, "memory.max_usage_in_bytes")?,
        pids: number(&folders[PIDS], "pids.current")?,
        oom_kills: oom_kills(folders)?,
    };
    Ok(usage.without_cache(keyed(memory, "memory.stat", "total_inactive_file")?))
}

pub(super) fn oom_kills(folders: &[PathBuf]) -> io::Result<u64> {
    keyed(&folders[MEMORY], "memory.oom_control", "oom_kill")
}

pub(super) fn dirty_bytes(folders: &[PathBuf]) -> io::Result<u64> {
    keyed(&folders[MEMORY], "memory.stat", "total_dirty")
}

pub(super) fn set_frozen(folders: &[PathBuf], frozen: bool) -> io::Result<()> {
    let state = if frozen { "FROZEN" } else { "THAWED" };
    write(freezer(folders), "freezer.state", state)
}

pub(super) fn is_frozen(folders: &[PathBuf]) -> io::Result<bool> {
    let state = read_if_there(&freezer(folders).join("freezer.state"))?;
    Ok(state.trim() == "FROZEN")
}

fn freezer(folders: &[PathBuf]) -> &Path {
    &folders[FREEZER]
}
