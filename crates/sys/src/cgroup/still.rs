//! Standing still: every process of a group stopped by the kernel.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Group, Version};

/// Freezing takes as long as the longest system call that cannot be interrupted.
const TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_micros(200);
/// Version 1 misses a process that is just starting a program, for good: it is found by freezing anew.
const ANEW: Duration = Duration::from_millis(5);

/// Keeps a group frozen as long as it lives, or for good.
#[derive(Debug)]
pub struct Frozen(Option<Group>);

impl Group {
    fn freeze(&self) -> io::Result<()> {
        let done = self.try_freeze();
        if done.is_err() {
            self.thaw()?;
        }
        done
    }

    fn try_freeze(&self) -> io::Result<()> {
        let began = Instant::now();
        let mut last = began;
        self.set_frozen(true)?;
        while !self.is_frozen()? {
            if began.elapsed() > TIMEOUT {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.version == Version::V1 && last.elapsed() > ANEW {
                self.set_frozen(false)?;
                self.set_frozen(true)?;
                last = Instant::now();
            }
            // Version 1 tells nobody when it is done.
            sleep(POLL);
        }
        Ok(())
    }
}

impl Frozen {
    /// Stops all its processes, and waits until none runs. After five seconds it lets them go on and fails with `TimedOut`.
    pub fn new(group: Group) -> io::Result<Self> {
        group.freeze()?;
        Ok(Self(Some(group)))
    }

    /// Leaves it frozen.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(Group::thaw) {
            tracing::error!(%error, "a group could not be thawed");
        }
    }
}
