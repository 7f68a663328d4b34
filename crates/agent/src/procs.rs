//! The sandbox's processes as `/proc` shows them: who runs, who descends from whom, and ending all of a family.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use skerry_proto::agent::Process;

use crate::reap::Reaper;

/// Rounds of stopping what still forks before killing.
const STOP_ROUNDS: usize = 16;
/// Listed processes.
const MAX_LISTED: usize = 4096;
/// Listed bytes of all command lines, so that the list fits into a frame.
const MAX_LISTED_BYTES: usize = 512 * 1024;
/// Listed arguments of one command line.
const MAX_ARGS: usize = 256;
/// Listed bytes of one command line.
const MAX_ARGV_BYTES: u64 = 4096;

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    session: u32,
    /// Since boot; with the pid it names a process for good.
    started: u64,
    /// Its own and its waited-for children's.
    cpu_ticks: u64,
    dead: bool,
    stopped: bool,
}

/// Reads one process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

fn parse(pid: u32, text: &str) -> Option<Stat> {
    // The name before it may hold anything, brackets and spaces included.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        ppid: u32::try_from(number(1)?).ok()?,
        session: u32::try_from(number(3)?).ok()?,
        started: number(19)?,
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        dead: matches!(*fields.first()?, "Z" | "X"),
        stopped: matches!(*fields.first()?, "T" | "t"),
    })
}

/// Processor time of a process and the children it waited for.
pub(crate) fn cpu(pid: u32) -> Duration {
    let ticks = stat(pid).map_or(0, |stat| stat.cpu_ticks);
    // USER_HZ is 100 on every architecture we build for.
    Duration::from_millis(ticks * 10)
}

fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect()
}

/// A session leader, its session and everything that descends from them, as far as was ever seen.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    leader: u32,
    seen: HashSet<(u32, u64)>,
}

impl Family {
    pub(crate) fn of(leader: u32) -> Self {
        let mut family = Self {
            leader,
            seen: HashSet::new(),
        };
        family.look();
        family
    }

    /// Every living member; remembers them, so that losing its parent hides nobody later.
    pub(crate) fn look(&mut self) -> Vec<u32> {
        let all = all();
        let mut members: HashSet<u32> = all
            .iter()
            .filter(|stat| {
                stat.pid == self.leader
                    || stat.session == self.leader
                    || self.seen.contains(&(stat.pid, stat.started))
            })
            .map(|stat| stat.pid)
            .collect();
        loop {
            let before = members.len();
            let children = all.iter().filter(|stat| members.contains(&stat.ppid));
            let children: Vec<u32> = children.map(|stat| stat.pid).collect();
            members.extend(children);
            if members.len() == before {
                break;
            }
        }
        let living = all
            .iter()
            .filter(|stat| members.contains(&stat.pid) && !stat.dead);
        let living: Vec<&Stat> = living.collect();
        self.seen
            .extend(living.iter().map(|stat| (stat.pid, stat.started)));
        living.iter().map(|stat| stat.pid).collect()
    }

    /// Every living member but the leader.
    pub(crate) fn followers(&mut self) -> Vec<u32> {
        let mut members = self.look();
        members.retain(|pid| *pid != self.leader);
        members
    }

    /// Every living member but the leader that is not stopped, parents before their children.
    pub(crate) fn moving(&mut self) -> Vec<u32> {
        let followers = self.followers().into_iter().filter_map(stat);
        let mut moving: Vec<Stat> = followers.filter(|s| !s.stopped && !s.dead).collect();
        moving.sort_unstable_by_key(|stat| (stat.started, stat.pid));
        moving.iter().map(|stat| stat.pid).collect()
    }

    /// Kills all members. They are stopped first, so that none forks away meanwhile.
    pub(crate) fn kill(&mut self) {
        self.freeze(|_| true);
        signal(&self.look(), Signal::KILL);
    }

    /// Kills all members but the leader.
    pub(crate) fn kill_followers(&mut self) {
        let leader = self.leader;
        self.freeze(|pid| pid != leader);
        signal(&self.followers(), Signal::KILL);
    }

    /// Until no member lives. Orphans are ours, so each death is heard of.
    pub(crate) async fn gone(mut self, reaper: &Reaper) {
        loop {
            let mut reaped = pin!(reaper.reaped.notified());
            reaped.as_mut().enable();
            if self.look().is_empty() {
                return;
            }
            reaped.await;
        }
    }

    fn freeze(&mut self, wanted: impl Fn(u32) -> bool) {
        let mut stopped = HashSet::new();
        for _ in 0..STOP_ROUNDS {
            let mut fresh = self.look();
            fresh.retain(|pid| wanted(*pid) && stopped.insert(*pid));
            if fresh.is_empty() {
                return;
            }
            signal(&fresh, Signal::STOP);
        }
    }
}

/// Sends a signal to each; who is gone is gone.
pub(crate) fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = self::pid(*pid) {
            let _: Result<(), rustix::io::Errno> = kill_process(pid, signal);
        }
    }
}

/// A pid as the kernel takes it.
pub(crate) fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// What runs in the sandbox, without the agent.
pub(crate) fn list() -> Vec<Process> {
    let own = std::process::id();
    let mut stats = all();
    stats.retain(|stat| stat.pid != own && !stat.dead);
    stats.sort_unstable_by_key(|stat| stat.pid);
    stats.truncate(MAX_LISTED);
    let mut room = MAX_LISTED_BYTES;
    let mut described = Vec::with_capacity(stats.len());
    for stat in stats {
        let argv = if room > 0 { argv(stat.pid) } else { Vec::new() };
        room = room.saturating_sub(argv.iter().map(|arg| arg.len() + 4).sum());
        described.push(Process {
            pid: stat.pid,
            ppid: stat.ppid,
            argv,
        });
    }
    described
}

fn argv(pid: u32) -> Vec<Bytes> {
    let mut line = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        // A process that is gone by now has no arguments.
        let _: std::io::Result<usize> = file.take(MAX_ARGV_BYTES).read_to_end(&mut line);
    }
    if line.last() == Some(&0) {
        line.pop();
    }
    if line.is_empty() {
        return Vec::new();
    }
    let args = line.split(|byte| *byte == 0).take(MAX_ARGS);
    args.map(Bytes::copy_from_slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_does_not_confuse() {
        let line = "7 (a) S 1 (b)) Z 3 4 5 0 0 0 0 0 0 0 1 2 3 4 20 0 1 0 99 0";
        let stat = parse(7, line).unwrap();
        assert_eq!((stat.ppid, stat.session, stat.started), (3, 5, 99));
        assert_eq!((stat.cpu_ticks, stat.dead), (10, true));
    }
}
