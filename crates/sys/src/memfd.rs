//! A file that has no path and never changes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// Of a second together.
const TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// A program in memory that nobody can ever change, through whatever descriptor or `/proc` link.
pub fn sealed_program(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Older kernels know no EXEC flag, and let every memfd be executed.
    let fd = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    seal(&file)?;
    Ok(file.into())
}

/// The kernel refuses while it uses a page of the file itself, as when it moves memory together: that passes.
fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for _ in 0..TRIES {
        match fcntl_add_seals(file, seals) {
            Err(Errno::BUSY) => sleep(BETWEEN_TRIES),
            done => return Ok(done?),
        }
    }
    Ok(fcntl_add_seals(file, seals)?)
}
