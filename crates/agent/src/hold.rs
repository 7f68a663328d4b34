//! Standing still for a snapshot: all processes but the agent are stopped, and later go on.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::exec::spawn::nobody_starts;
use crate::procs::{self, Family};

/// A process that does not stop within this time is stuck in the kernel, or is woken by another.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many looks, all that were stopped go on for a moment: a process whose child was stopped between `vfork` and its exec cannot stop.
const LOOKS: u32 = 20;
/// A signal takes effect when its receiver is next scheduled.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Some process would not stand still.
#[derive(Debug, thiserror::Error)]
#[error("process {0} does not stand still")]
pub(crate) struct Restless(u32);

/// Who was stopped and has to go on, parents before their children.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    stopped: Vec<u32>,
    /// From when everybody stood until they were let go.
    stands: bool,
}

impl Hold {
    /// Stops everybody who runs. Who stood already was stopped by somebody else, and stays so at the release.
    pub(crate) fn stop(&mut self) -> Result<(), Restless> {
        let mut everybody = Family::of(std::process::id());
        let until = Instant::now() + PATIENCE;
        for look in 1_u32.. {
            let nobody_starts = nobody_starts();
            let moving = everybody.moving();
            let Some(first) = moving.first() else {
                self.stands = true;
                return Ok(());
            };
            if Instant::now() > until {
                let restless = Restless(*first);
                self.go_on();
                return Err(restless);
            }
            procs::signal(&moving, Signal::STOP);
            drop(nobody_starts);
            let known: HashSet<u32> = self.stopped.iter().copied().collect();
            self.stopped
                .extend(moving.iter().filter(|pid| !known.contains(pid)));
            if look.is_multiple_of(LOOKS) {
                procs::signal(&self.stopped, Signal::CONT);
            }
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Does everybody stand?
    pub(crate) fn stands(&self) -> bool {
        self.stands
    }

    /// Lets them go on, children first: no parent that waits for stopped children sees one.
    pub(crate) fn go_on(&mut self) {
        self.stopped.reverse();
        procs::signal(&self.stopped, Signal::CONT);
        self.stopped.clear();
        self.stands = false;
    }
}
