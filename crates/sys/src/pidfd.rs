//! Processes by handle, and by number together with the moment they started.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use std::{fs, io};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use serde::{Deserialize, Serialize};

use crate::poll;
use crate::processes::END_TIMEOUT;

/// A process that was running: its number alone could have been given to another since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
}

impl Identity {
    /// The process that has this number now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let started = start_time(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, started })
    }

    /// A handle on this very process; `None` if it is gone.
    pub fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pidfd) = open(self.pid)? else {
            return Ok(None);
        };
        // The handle holds the number from here on, so what is read now is about the process it is for.
        let same = Self::of(self.pid).is_ok_and(|now| now == self);
        Ok((same && !has_exited(&pidfd)?).then_some(pidfd))
    }
}

/// Does the first thread of the process with this number end, or is it gone? While others are traced, a handle does not tell until their tracer lets
/// go: the thread waits for them, or they keep it as a zombie.
pub fn is_ending(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| {
        flags(&stat).is_none_or(|flags| flags & PF_EXITING != 0)
    })
}

/// From the kernel's `include/linux/sched.h`.
const PF_EXITING: u32 = 0x4;

/// Field 9.
fn flags(stat: &str) -> Option<u32> {
    after_name(stat).nth(6)?.parse().ok()
}

/// Field 22.
fn start_time(stat: &str) -> Option<u64> {
    after_name(stat).nth(19)?.parse().ok()
}

/// Field 3 and those after it. The name before them, in parentheses, may hold anything.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_ascii_whitespace()
}

/// A handle on the process with this number; `None` if there is none.
pub fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Kills it; one that is gone already is fine.
pub fn kill(pidfd: impl AsFd) -> io::Result<()> {
    match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Kills it, and waits until it is gone. After ten seconds it fails with `TimedOut`.
pub fn end(pidfd: impl AsFd) -> io::Result<()> {
    kill(&pidfd)?;
    let is_gone = wait(pidfd, END_TIMEOUT)?;
    is_gone
        .then_some(())
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// Is it gone, and if it was the first of its namespace, everything in there too?
pub fn has_exited(pidfd: impl AsFd) -> io::Result<bool> {
    wait(pidfd, Duration::ZERO)
}

/// Waits until it is gone; false if it is not by then.
pub fn wait(pidfd: impl AsFd, patience: Duration) -> io::Result<bool> {
    let [is_gone] = poll::readable([pidfd.as_fd()], Some(patience))?;
    Ok(is_gone)
}

/// Lets go of a child that is gone, so that its number is free, and tells whether a signal killed it; of one that was let go of already nobody knows.
pub fn reap(pidfd: impl AsFd) -> io::Result<bool> {
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(ended) => Ok(ended.is_some_and(|ended| ended.killed() || ended.dumped())),
        Err(rustix::io::Errno::CHILD) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_hostile_name_does_not_move_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_time(&format!("7 (a) R 9 (b)) {rest}")), Some(4242));
        assert_eq!(start_time("7 (a) S 1"), None);
        assert_eq!(flags(&format!("7 (a) R 9 (b)) {rest}")), Some(6));
    }

    #[test]
    fn a_child_that_nobody_waited_for_is_ending() {
        assert!(!is_ending(std::process::id()));
        let mut child = Command::new("true").spawn().unwrap();
        let handle = open(child.id()).unwrap().unwrap();
        assert!(wait(&handle, Duration::from_mins(1)).unwrap());
        assert!(is_ending(child.id()));
        child.wait().unwrap();
    }

    #[test]
    fn a_number_taken_over_by_another_process_is_not_the_process() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.open().unwrap().is_some());
        let earlier = Identity {
            started: own.started - 1,
            ..own
        };
        assert!(earlier.open().unwrap().is_none());
    }
}
