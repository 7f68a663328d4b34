//! Holding a file system still.
#![expect(unsafe_code, reason = "FIFREEZE and FITHAW have no safe interface")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

/// Writes out all that is not on disk yet; whoever writes from then on waits. `fd` is any folder of it. One that is frozen already is fine.
pub fn freeze(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no argument that the kernel would look at.
    match unsafe { libc::ioctl(fd.as_raw_fd(), FIFREEZE, 0) } {
        0 => Ok(()),
        _ => fine_if(libc::EBUSY),
    }
}

/// Lets everybody write. One that is not frozen is fine.
pub fn thaw(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no argument that the kernel would look at.
    match unsafe { libc::ioctl(fd.as_raw_fd(), FITHAW, 0) } {
        0 => Ok(()),
        _ => fine_if(libc::EINVAL),
    }
}

fn fine_if(errno: i32) -> io::Result<()> {
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(errno) {
        Ok(())
    } else {
        Err(error)
    }
}
