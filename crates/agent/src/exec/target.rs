//! Who is meant by "the exec" when it is signalled or killed.

use rustix::process::{Signal, kill_process_group};

use crate::procs::{self, Family};

/// The processes of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The process group, and for killing the session, that this process leads.
    Group(u32),
    /// What this shell runs; itself only when it runs nothing.
    Shell(u32),
}

impl Target {
    /// Sends a signal by number; one that does not exist is nothing.
    pub(crate) fn signal(self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            self.send(signal);
        }
    }

    fn send(self, signal: Signal) {
        match self {
            Self::Group(leader) => {
                if let Some(group) = procs::pid(leader) {
                    // A group that is gone needs no signal.
                    let _: Result<(), rustix::io::Errno> = kill_process_group(group, signal);
                }
            }
            Self::Shell(shell) => {
                let mut running = Family::of(shell).followers();
                if running.is_empty() {
                    running.push(shell);
                }
                procs::signal(&running, signal);
            }
        }
    }

    /// Asks all to end.
    pub(crate) fn terminate(self) {
        match self {
            Self::Group(_) => self.send(Signal::TERM),
            // The shell itself stands still: it neither goes on with its script nor tells of whom we end.
            Self::Shell(shell) => {
                procs::signal(&[shell], Signal::STOP);
                procs::signal(&Family::of(shell).followers(), Signal::TERM);
            }
        }
    }

    pub(crate) fn leader(self) -> u32 {
        match self {
            Self::Group(leader) | Self::Shell(leader) => leader,
        }
    }
}
