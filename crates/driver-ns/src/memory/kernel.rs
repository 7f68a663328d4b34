//! What CRIU finds out about the kernel before it does anything else, which takes it longer than keeping a small sandbox does.
//!
//! It depends on where it is asked, so it is found out once in each kind of [`Place`], and told to every later CRIU there. It is found out by a CRIU of
//! its own, and reported, before any has seen anything of a sandbox: whatever takes over one that has can tell the next nothing.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};

use parking_lot::Mutex;
use skerry_sys::clone::SingleThreaded;
use skerry_sys::pidfd;

use super::PATIENCE;
use super::jail;

/// Where CRIU looks for it, in the jail.
const FINDINGS: &str = "/run/criu.kdat";
/// They are less than a page.
const MAX_BYTES: u64 = 4096;

/// As CRIU wrote them: bytes for itself alone.
pub(crate) type Findings = Vec<u8>;

/// From where CRIU sees the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// It keeps, as root of the host in the sandbox's network.
    Beside { has_address: bool },
    /// It wakes up, as root of the sandbox.
    Inside { has_address: bool },
}

/// What is known in each place.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<Place, Findings>>);

impl Known {
    pub(crate) fn at(&self, place: Place) -> Option<Findings> {
        self.0.lock().get(&place).cloned()
    }

    pub(crate) fn add(&self, place: Place, found: Option<Findings>) {
        self.0.lock().extend(found.map(|found| (place, found)));
    }
}

/// Has CRIU know it in the jail that the caller is in; returns what had to be found out. Where nothing can be, each CRIU looks for itself.
pub(super) fn tell(
    single: &SingleThreaded,
    known: Option<&Findings>,
    is_root: bool,
) -> io::Result<Option<Findings>> {
    if let Some(known) = known {
        return fs::write(FINDINGS, known).map(|()| None);
    }
    let finder = jail::start_check(single, is_root)?;
    if !pidfd::wait(&finder, PATIENCE)? {
        pidfd::kill(&finder)?;
    }
    pidfd::reap(&finder)?;
    match File::open(FINDINGS) {
        Ok(file) => {
            let mut found = Vec::new();
            file.take(MAX_BYTES).read_to_end(&mut found)?;
            Ok(Some(found))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
