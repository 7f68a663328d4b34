//! What a helper is asked to do, and what it found.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use skerry_sys::clone::Shift;

use super::kernel::Findings;
use crate::spawner::{Bounds, Request};

/// Keep the memory of a sandbox in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keep {
    /// What holds CRIU's `usr`.
    pub(crate) tool: PathBuf,
    /// There, and empty.
    pub(crate) folder: PathBuf,
    /// The agent, as the host numbers it.
    pub(crate) agent: u32,
    /// The agent's home, on the host.
    pub(crate) home: PathBuf,
    /// What the sandbox has beside the loopback, and no copy of it.
    pub(crate) address: Option<Ipv4Addr>,
    /// No image gets longer.
    pub(crate) max_bytes: u64,
    pub(crate) kernel: Option<Findings>,
}

/// Wake up what was kept as another sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wake {
    pub(crate) tool: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) kept: Kept,
    pub(crate) kernel: Option<Findings>,
    pub(crate) bounds: Bounds,
    pub(crate) request: Request,
}

/// What has to be known of kept memory to wake it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// What the images call the agent's program.
    pub(crate) program: String,
    /// What they call its home.
    pub(crate) home: String,
    pub(crate) clocks: Clocks,
}

/// What the clocks that only go forward showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clocks {
    monotonic: (i64, i64),
    boottime: (i64, i64),
}

impl Clocks {
    /// What they show to this process now.
    pub(super) fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            (time.tv_sec, time.tv_nsec)
        };
        Self {
            monotonic: read(ClockId::Monotonic),
            boottime: read(ClockId::Boottime),
        }
    }

    /// What has to be added to them to show `then` again.
    pub(super) fn until(self, then: Self) -> (Shift, Shift) {
        (
            shift(self.monotonic, then.monotonic),
            shift(self.boottime, then.boottime),
        )
    }
}

fn shift(from: (i64, i64), to: (i64, i64)) -> Shift {
    const SECOND: i64 = 1_000_000_000;
    let borrow = i64::from(to.1 < from.1);
    Shift {
        seconds: to.0 - from.0 - borrow,
        nanoseconds: to.1 - from.1 + borrow * SECOND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_goes_either_way_and_its_nanoseconds_forward() {
        let seen = |from, to| {
            let shift = shift(from, to);
            (shift.seconds, shift.nanoseconds)
        };
        assert_eq!(seen((5, 7), (5, 7)), (0, 0));
        assert_eq!(seen((5, 7), (9, 8)), (4, 1));
        assert_eq!(seen((9, 8), (5, 7)), (-5, 999_999_999));
    }
}
