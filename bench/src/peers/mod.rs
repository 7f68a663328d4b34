//! The other runtimes: how each runs a program in something new, and in something that runs already.

mod bwrap;
mod docker;
mod oci;
pub(crate) mod podman;

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::process::{find, output, words};
use crate::results::Results;
use crate::{cache_dir, rootfs, say};

/// The control group that every peer's containers are in.
const CGROUP: &str = "skerry-bench";
/// What a new one writes.
const HELLO: [&str; 2] = ["/bin/echo", "ready"];

/// A runtime, ready to be measured. Dropped, it ends what it started.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    /// The command that runs `echo ready` in something new and removes it.
    pub(crate) run: Option<Vec<String>>,
    /// The command, but for the program, that runs something in what runs already.
    pub(crate) exec: Option<Vec<String>>,
    /// How often it is worth waiting for.
    pub(crate) rounds: usize,
    undo: Undo,
    _daemon: Option<docker::Daemon>,
}

/// The commands that take away what was started.
#[derive(Debug, Default)]
struct Undo(Vec<Vec<String>>);

/// All that there are.
pub(crate) const ALL: [&str; 6] = ["fork + exec", "bwrap", "crun", "runc", "podman", "docker"];

/// Those of them that this machine has.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) all: Vec<Peer>,
    _scratch: Option<TempDir>,
}

/// Where peers find and keep things.
#[derive(Debug, Clone, Copy)]
struct Places<'a> {
    rootfs: &'a Path,
    cache: &'a Path,
    scratch: &'a Path,
}

impl Peers {
    /// Sets up these; whoever cannot be is listed with the reason.
    pub(crate) async fn set_up(names: &[&'static str], results: &mut Results) -> Result<Self> {
        say("setting up the other runtimes");
        let cache = cache_dir()?;
        let rootfs = rootfs::make(&cache).await?;
        let scratch = TempDir::with_prefix("skerry-bench-")?;
        let places = Places {
            rootfs: &rootfs,
            cache: &cache,
            scratch: scratch.path(),
        };
        let mut all = Vec::new();
        for &name in names {
            let peer = match name {
                "bwrap" => bwrap::set_up(places),
                "crun" | "runc" => oci::set_up(name, places).await,
                "podman" => podman::set_up(places).await,
                "docker" => docker::set_up(places).await,
                _ => Ok(floor()),
            };
            match peer {
                Ok(peer) => all.push(peer),
                Err(error) => results.miss(name, format!("{error:#}")),
            }
        }
        Ok(Self {
            all,
            _scratch: Some(scratch),
        })
    }
}

impl Peer {
    fn new(name: &str, rounds: usize) -> Self {
        Self {
            name: name.to_owned(),
            run: None,
            exec: None,
            rounds,
            undo: Undo::default(),
            _daemon: None,
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for command in &self.0 {
            let bounded = ["timeout", "-s", "KILL", "30"].map(str::to_owned);
            let words = [&bounded, command.as_slice()].concat();
            // What is gone needs no undoing.
            let _gone = std::process::Command::new(&words[0])
                .args(&words[1..])
                .output();
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.all.clear();
        for folder in cgroup_folders() {
            // Podman leaves its monitor's group behind.
            let _none = std::fs::remove_dir(folder.join("conmon"));
            let _busy = std::fs::remove_dir(folder);
        }
    }
}

/// No isolation at all: what starting a program costs.
fn floor() -> Peer {
    Peer {
        run: Some(HELLO.map(str::to_owned).to_vec()),
        exec: Some(Vec::new()),
        ..Peer::new("fork + exec", 1000)
    }
}

/// A program that must be there.
fn need(program: &str) -> Result<String> {
    find(program).ok_or_else(|| anyhow::anyhow!("`{program}` is not installed"))
}

fn with(words: &[String], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|word| (*word).to_owned());
    words.iter().cloned().chain(more).collect()
}

/// Our group in each hierarchy of control groups.
fn cgroup_folders() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let folders = hierarchies.filter_map(|line| line.split(' ').nth(4));
    folders
        .map(|folder| Path::new(folder).join(CGROUP))
        .collect()
}

/// Runs a command that prepares something.
async fn prepare(command: &[String]) -> Result<()> {
    output(command).await.map(drop)
}

fn line(text: &str) -> Vec<String> {
    words(text)
}
