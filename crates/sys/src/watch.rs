//! Waiting for descriptors in an async runtime.
#![expect(
    unsafe_code,
    reason = "tokio wants a promise that the descriptor stays what it is"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets an async task wait until `fd` can be read: a non-blocking socket, or a pidfd whose process is gone.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one number, open until it is dropped, and `AsyncFd` gives out no way to replace it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}
