//! The machine that was measured, and its state.

use std::fs;

use anyhow::Context;
use jiff::Zoned;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use crate::process;

/// Where and when.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) revision: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// The hypervisor, `no`, or that nobody knows.
    pub(crate) virtualised: String,
    pub(crate) file_system: String,
    pub(crate) load_before: String,
}

/// Moves this process into a mount namespace of its own.
pub(crate) fn enter_private_mounts() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("cannot keep mounts private")
}

impl Machine {
    pub(crate) async fn look() -> Self {
        let cpu = line("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
        let flags = line("/proc/cpuinfo", "flags").unwrap_or_default();
        let memory = line("/proc/meminfo", "MemTotal").unwrap_or_default();
        let memory = memory.split_whitespace().next().unwrap_or("0").parse();
        Self {
            date: Zoned::now().strftime("%Y-%m-%d %H:%M %z").to_string(),
            revision: revision().await,
            cpu,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or(0u64) / 1024,
            kernel: first("/proc/sys/kernel/osrelease"),
            virtualised: if flags.split(' ').any(|flag| flag == "hypervisor") {
                "yes (the processor says so)"
            } else {
                "no"
            }
            .to_owned(),
            file_system: said("stat -f -c %T /tmp").await,
            load_before: load(),
        }
    }

    /// A short name for files: when and where.
    pub(crate) fn slug(&self) -> String {
        let day = self.date.split(' ').next().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let cpu: String = self.cpu.to_lowercase().chars().map(plain).collect();
        let words: Vec<&str> = cpu.split('-').filter(|word| !word.is_empty()).collect();
        format!("{day}-{}-{}core", words.join("-"), self.cores)
    }
}

/// Runnable tasks in the last 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let load = first("/proc/loadavg");
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

async fn revision() -> String {
    let head = said("git rev-parse --short=12 HEAD").await;
    let changed = said("git status --porcelain --untracked-files=no").await;
    if changed.is_empty() {
        head
    } else {
        format!("{head} with changes")
    }
}

async fn said(command: &str) -> String {
    let said = process::output(&process::words(command)).await;
    said.unwrap_or_default().trim().to_owned()
}

fn first(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn line(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
