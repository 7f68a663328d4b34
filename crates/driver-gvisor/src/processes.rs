//! Finding the processes of `runsc` on the host, for when nothing else remembers them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use skerry_sys::{pidfd, processes};

/// A killed process goes as soon as the system call it is in ends, which a dead disk can delay.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const KILL_POLL: Duration = Duration::from_micros(500);

/// The flag that tells `runsc`, and each process that it starts, where its state is.
pub(crate) fn root_flag(root: &Path) -> String {
    format!("--root={}", root.display())
}

/// Every process of `runsc` that has its state in this folder. Nothing inside a sandbox is a process of the host with arguments of its own.
pub(crate) fn of_root(root: &Path) -> io::Result<Vec<u32>> {
    let flag = root_flag(root);
    processes::with_arguments(|arguments| arguments.contains(&flag.as_bytes()))
}

/// Kills all of them and waits until they are gone.
pub(crate) fn kill_root(root: &Path) -> io::Result<()> {
    until_done(|| {
        let found = of_root(root)?.into_iter();
        let living: Vec<OwnedFd> = found.filter_map(|pid| pidfd::open(pid).ok()?).collect();
        living.iter().try_for_each(pidfd::kill)?;
        for process in &living {
            until_done(|| pidfd::has_exited(process))?;
        }
        Ok(living.is_empty())
    })
}

/// Repeats a step until it says that nothing is left to do.
fn until_done(mut step: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    while !step()? {
        if began.elapsed() > KILL_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // More may be starting.
        sleep(KILL_POLL);
    }
    Ok(())
}
