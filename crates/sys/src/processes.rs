//! Processes of the host: finding those that nothing else remembers, and seeing them end.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::folder;

/// A killed process goes as soon as the system call it is in ends, which a dead disk can delay.
pub(crate) const END_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Those whose arguments are such, the first of which is what they are called. One that is gone already is none.
pub fn with_arguments(are_such: impl Fn(&[&[u8]]) -> bool) -> io::Result<Vec<u32>> {
    let mut found: Vec<u32> = folder::names(Path::new("/proc"), "")?;
    found.retain(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        are_such(&arguments)
    });
    Ok(found)
}

/// Repeats a step of ending processes until it says that nothing is left to do. After ten seconds it fails with `TimedOut`.
pub fn until_ended(mut step: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    while !step()? {
        if began.elapsed() > END_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // More may be starting, and a control group of version 1 tells nobody when it is empty.
        sleep(LOOK_AGAIN);
    }
    Ok(())
}
