//! The memory of processes: what is shared counts by halves, thirds and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use nix::libc::ESRCH;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// PSS of all of them in MiB. Those that have ended have none.
pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Result<f64> {
    let kib: Result<Vec<f64>> = pids.into_iter().map(of_one).collect();
    Ok(kib?.iter().sum::<f64>() / 1024.0)
}

fn of_one(pid: u32) -> Result<f64> {
    let text = match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(ESRCH) => {
            return Ok(0.0);
        }
        text => text.with_context(|| format!("the memory of process {pid}"))?,
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no Pss")?.parse()?)
}

/// Processes with this among their arguments, and all below them.
pub(crate) fn named(part: &str) -> BTreeSet<u32> {
    let is_named = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(part)
    };
    family(pids().filter(is_named).collect())
}

/// A process and all below it.
pub(crate) fn below(pid: u32) -> BTreeSet<u32> {
    family(vec![pid])
}

/// Kills them.
pub(crate) fn end(pids: impl IntoIterator<Item = u32>) {
    for pid in pids {
        let _gone = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}

fn family(mut look_at: Vec<u32>) -> BTreeSet<u32> {
    let mut below: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in pids() {
        if let Some(parent) = parent(pid) {
            below.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    while let Some(pid) = look_at.pop() {
        if found.insert(pid) {
            look_at.extend(below.remove(&pid).unwrap_or_default());
        }
    }
    found
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A name may have anything in it.
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(1)?.parse().ok()
}
