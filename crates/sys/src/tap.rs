//! Network interfaces whose other end is a file.
#![expect(unsafe_code, reason = "TUNSETIFF has no safe interface")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;

/// Makes an Ethernet interface, down, in the calling thread's network namespace. It goes when the descriptor does.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let tun: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives for the call and is of the kind that this number takes.
    if unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(tun.into())
}
