//! What a server and its sandboxes leave on this machine, found from outside by the one thing that all of it names: the data folder.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::wait::until;

const GONE: Duration = Duration::from_secs(20);

/// A snapshot of everything on this machine that belongs to one data folder; each entry is one thing, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    pub(crate) fn of(data: &Path, server: Option<u32>) -> Self {
        let mut found = Self::default();
        let ours = processes(data, server);
        for process in &ours {
            found.add(&format!("process: {}", process.name));
        }
        let seen = seen(data, server);
        for group in groups(&seen) {
            found.add(&format!("control group: {}", group.display()));
        }
        found.mounts(data, &ours);
        found.loop_devices(data);
        found.networks(data);
        found.files(&seen);
        found
    }

    /// What is here and not in `before`.
    pub fn beyond<'a>(&'a self, before: &'a Self) -> Vec<&'a str> {
        self.0.difference(&before.0).map(String::as_str).collect()
    }

    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Things that come several times are counted.
    fn add(&mut self, thing: &str) {
        let mut counted = thing.to_owned();
        let mut count = 1;
        while !self.0.insert(counted) {
            count += 1;
            counted = format!("{thing} ({count})");
        }
    }

    /// In every mount namespace that there is, once each.
    fn mounts(&mut self, data: &Path, ours: &[Process]) {
        let mut seen = BTreeSet::new();
        let devices: Vec<String> = loops(data)
            .iter()
            .map(|name| format!("/dev/{name}"))
            .collect();
        for pid in pids() {
            let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else {
                continue;
            };
            if !seen.insert(namespace) {
                continue;
            }
            let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            let name = ours
                .iter()
                .find(|p| p.pid == pid)
                .map_or("somebody else", |p| &p.name);
            // The server's processes share one namespace at first, and not after a restart.
            let is_server = name == "server" || name.starts_with("internal ");
            let name = if is_server { "the server" } else { name };
            let data = data.to_string_lossy();
            for line in table.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let from_pool = words
                    .iter()
                    .any(|word| devices.iter().any(|device| device == word));
                if from_pool || line.contains(&*data) {
                    let at = words.get(4).unwrap_or(&"?");
                    let thing = format!("mount of {name}: {at}");
                    if is_server {
                        self.0.insert(thing);
                    } else {
                        self.add(&thing);
                    }
                }
            }
        }
    }

    fn loop_devices(&mut self, data: &Path) {
        for _ in loops(data) {
            self.add("loop device");
        }
    }

    /// Network namespaces that the gateway holds, and links in its own.
    fn networks(&mut self, data: &Path) {
        for gateway in gateways(data) {
            let held = fs::read_dir(format!("/proc/{gateway}/fd"))
                .into_iter()
                .flatten();
            let held = held.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
            for _ in held.filter(|target| target.to_string_lossy().starts_with("net:[")) {
                self.add("network namespace of the gateway");
            }
            let links = fs::read_to_string(format!("/proc/{gateway}/net/dev")).unwrap_or_default();
            for _ in links.lines().skip(2) {
                self.add("link of the gateway");
            }
        }
    }

    fn files(&mut self, below: &Path) {
        for folder in [
            "run",
            "vm/run",
            "vm/sandbox",
            "vm/snapshot",
            "pool/run",
            "pool/vm/sandbox",
            "pool/vm/snapshot",
            "pool/ns-snapshots",
            "pool/gvisor-snapshots",
            "pool/volumes",
            "pool/staging",
            "pool/trash",
            "ns-snapshots",
            "ns-memory",
            "gvisor-snapshots",
            "gvisor-memory",
            "volumes",
            "staging",
            "trash",
        ] {
            for name in names(&below.join(folder)) {
                self.add(&format!("{folder}/{name}"));
            }
        }
        // Its agents lie there for the next sandbox.
        for name in names(&below.join("gvisor")) {
            if !name.starts_with("agent-") {
                self.add(&format!("gvisor/{name}"));
            }
        }
        for label in names(&below.join("sandboxes")) {
            // The record outlives the sandbox.
            let left = names(&below.join("sandboxes").join(&label));
            if left != ["journal"] {
                self.add(&format!("sandboxes/{label}: {left:?}"));
            }
        }
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|thing| writeln!(f, "  {thing}"))
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    name: String,
}

/// Those of this server: itself and its children, those that name the folder, those in its control groups, and agents on record.
pub(crate) fn processes(data: &Path, server: Option<u32>) -> Vec<Process> {
    let mut ours: BTreeSet<u32> = server.into_iter().collect();
    ours.extend(server.map(children).unwrap_or_default());
    ours.extend(gateways(data));
    let seen = seen(data, server);
    ours.extend(members(&groups(&seen)));
    let labels = names(&seen.join("sandboxes"));
    ours.extend(pids().into_iter().filter(|&pid| {
        let line = command_line(pid);
        line.starts_with("skerry-agent:")
            && labels.iter().any(|label| line.contains(label.as_str()))
    }));
    let name = |pid| Process {
        pid,
        name: name(pid, server),
    };
    // A zombie has no command line and holds nothing.
    ours.into_iter()
        .map(name)
        .filter(|process| !process.name.is_empty())
        .collect()
}

/// The data folder as the server sees it, which may have a mount of its own there.
fn seen(data: &Path, server: Option<u32>) -> PathBuf {
    let below = data.strip_prefix("/").unwrap_or(data);
    server.map_or_else(
        || data.to_owned(),
        |pid| Path::new(&format!("/proc/{pid}/root")).join(below),
    )
}

/// Who is in these control groups.
fn members(groups: &[PathBuf]) -> Vec<u32> {
    let lists = groups.iter().map(|group| group.join("cgroup.procs"));
    let lists = lists.filter_map(|list| fs::read_to_string(list).ok());
    lists
        .flat_map(|list| {
            list.lines()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// The same before and after a restart.
fn name(pid: u32, server: Option<u32>) -> String {
    let line = command_line(pid);
    let role = ["internal spawner", "internal gateway"]
        .into_iter()
        .find(|role| line.contains(role));
    match role {
        Some(role) => role.to_owned(),
        None if server == Some(pid) => "server".to_owned(),
        None => line,
    }
}

fn gateways(data: &Path) -> Vec<u32> {
    let socket = data.join("network").to_string_lossy().into_owned();
    let is_gateway = |&pid: &u32| {
        let line = command_line(pid);
        line.contains("internal gateway") && line.contains(&socket)
    };
    pids().into_iter().filter(is_gateway).collect()
}

/// The control groups of its sandboxes, in every hierarchy.
fn groups(data: &Path) -> Vec<PathBuf> {
    parents(data)
        .iter()
        .flat_map(|parent| {
            names(parent)
                .into_iter()
                .map(|name| parent.join(name))
                .filter(|path| path.is_dir())
        })
        .collect()
}

/// The folders that hold them.
fn parents(data: &Path) -> Vec<PathBuf> {
    let Ok(meta) = fs::metadata(data) else {
        return Vec::new();
    };
    // One for each driver.
    let own = format!("{:x}-{:x}-", meta.dev(), meta.ino());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let folders = hierarchies.filter_map(|line| line.split(' ').nth(4));
    let folders = folders.map(|folder| Path::new(folder).join("skerry"));
    let drivers = folders.flat_map(|folder| {
        let names = names(&folder).into_iter();
        names
            .filter(|name| name.starts_with(&own))
            .map(|name| folder.join(name))
            .collect::<Vec<_>>()
    });
    drivers.filter(|folder| folder.is_dir()).collect()
}

fn loops(data: &Path) -> Vec<String> {
    let is_ours = |name: &String| {
        let backing = format!("/sys/block/{name}/loop/backing_file");
        fs::read_to_string(backing).is_ok_and(|path| Path::new(path.trim()).starts_with(data))
    };
    names(Path::new("/sys/block"))
        .into_iter()
        .filter(is_ours)
        .collect()
}

/// The control groups of a server and its sandboxes, as long as it can be asked; the outermost last.
pub(crate) fn all_groups(data: &Path, server: Option<u32>) -> Vec<PathBuf> {
    let seen = seen(data, server);
    [groups(&seen), parents(&seen)].concat()
}

/// Ends every process of this data folder and these control groups, gives the groups back, and waits until the pool's device is gone.
pub(crate) fn remove_all(data: &Path, groups: &[PathBuf]) {
    let gone = until(GONE, "its processes are gone", || {
        let mut ours: Vec<u32> = processes(data, None).iter().map(|p| p.pid).collect();
        ours.extend(members(groups));
        for pid in &ours {
            signal(*pid, "KILL");
        }
        Ok(ours.is_empty().then_some(()))
    });
    for group in groups.iter().chain(&all_groups(data, None)) {
        let _busy = fs::remove_dir(group);
    }
    let gone = gone.and_then(|()| {
        until(GONE, "the loop device is gone", || {
            Ok(loops(data).is_empty().then_some(()))
        })
    });
    if let Err(error) = gone {
        let _written =
            std::io::Write::write_all(&mut std::io::stderr(), format!("{error:#}\n").as_bytes());
    }
}

/// Sends a signal by name. One that is gone needs none.
pub fn signal(pid: u32, name: &str) {
    let _gone = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .output();
}

/// Whether there is a process with this number that has not ended.
pub fn is_alive(pid: u32) -> bool {
    !command_line(pid).is_empty()
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = names(Path::new(&format!("/proc/{pid}/task")));
    let children = threads.iter().filter_map(|thread| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).ok()
    });
    children
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// What it started and what that started, each before what it started itself.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Processes whose command line begins so, and that line.
pub(crate) fn running(program: &str) -> Vec<(u32, String)> {
    let lines = pids().into_iter().map(|pid| (pid, command_line(pid)));
    lines
        .filter(|(_, line)| line.starts_with(program))
        .collect()
}

/// The words of a process's command line; empty for one that is gone.
pub(crate) fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

fn pids() -> Vec<u32> {
    names(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}
