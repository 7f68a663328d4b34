//! Standing still: every process of a control group stopped by the kernel.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use skerry_sys::cgroup::Group;

/// Freezing takes as long as the longest system call that cannot be interrupted.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);
const FREEZE_POLL: Duration = Duration::from_micros(200);

/// Keeps a group frozen as long as it lives.
pub(crate) struct Frozen(Group);

impl Frozen {
    pub(crate) fn new(group: Group) -> io::Result<Self> {
        let frozen = Self(group);
        freeze(&frozen.0, true)?;
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = self.0.set_frozen(false) {
            tracing::error!(%error, "a sandbox could not be thawed after it was forked");
        }
    }
}

/// Freezes or thaws, and waits until that is done.
pub(crate) fn freeze(group: &Group, frozen: bool) -> io::Result<()> {
    group.set_frozen(frozen)?;
    let began = Instant::now();
    while group.is_frozen()? != frozen {
        if began.elapsed() > FREEZE_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The older control groups tell nobody when it is done.
        sleep(FREEZE_POLL);
    }
    Ok(())
}
