//! The end of a group and of everybody in it.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Group;

/// A killed process goes as soon as the system call it is in ends, which a dead disk can delay.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_micros(200);

impl Group {
    /// Kills all that is in it, frozen or not and also what comes in meanwhile, until it is empty. Fine if it is not there. After ten seconds it
    /// fails with `TimedOut`.
    pub fn clear(&self) -> io::Result<()> {
        until(|| {
            self.kill()?;
            Ok(self.processes()?.is_empty())
        })
    }

    /// The same, and removes it.
    pub fn end(&self) -> io::Result<()> {
        until(|| match self.remove() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                self.kill().map(|()| false)
            }
            done => done.map(|()| true),
        })
    }
}

fn until(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() > TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Version 1 tells nobody when a group is empty.
        sleep(POLL);
    }
    Ok(())
}
