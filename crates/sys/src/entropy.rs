//! The kernel's random pool.
#![expect(unsafe_code, reason = "random(4) requests have no safe interface")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The most that is added at once, in bytes.
pub const MAX_BYTES: usize = 256;
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

/// What the kernel reads: how many bits, how many bytes, the bytes.
#[repr(C)]
struct PoolInfo {
    bits: libc::c_int,
    bytes: libc::c_int,
    data: [u8; MAX_BYTES],
}

/// Adds secret bytes, counted in full, and lets all random numbers from now on depend on them. What is over [`MAX_BYTES`] is left out.
pub fn add(entropy: &[u8]) -> io::Result<()> {
    let len = entropy.len().min(MAX_BYTES);
    let mut info = PoolInfo {
        bits: (len * 8) as libc::c_int,
        bytes: len as libc::c_int,
        data: [0; MAX_BYTES],
    };
    info.data[..len].copy_from_slice(&entropy[..len]);
    let pool = File::open("/dev/urandom")?;
    // SAFETY: the kernel reads the header and as many bytes as it says, all inside `info`.
    let added = unsafe { libc::ioctl(pool.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    if added < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no argument.
    if unsafe { libc::ioctl(pool.as_raw_fd(), RNDRESEEDCRNG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
