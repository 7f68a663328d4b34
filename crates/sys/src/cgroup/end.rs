//! The end of a group and of everybody in it.

use std::io;

use super::Group;
use crate::processes::until_ended;

impl Group {
    /// Kills all that is in it, frozen or not and also what comes in meanwhile, until it is empty. Fine if it is not there. After ten seconds it
    /// fails with `TimedOut`.
    pub fn clear(&self) -> io::Result<()> {
        until_ended(|| {
            self.kill()?;
            Ok(self.processes()?.is_empty())
        })
    }

    /// The same, and removes it.
    pub fn end(&self) -> io::Result<()> {
        until_ended(|| match self.remove() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                self.kill().map(|()| false)
            }
            done => done.map(|()| true),
        })
    }
}
