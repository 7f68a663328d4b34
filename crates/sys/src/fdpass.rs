//! Messages with file descriptors, over a socket that keeps messages apart.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};

/// Descriptors in one message, at most. The kernel's own limit is 253.
pub const MAX_FDS: usize = 192;
const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// Two ends that exchange whole messages.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message. Nothing was sent if it fails.
pub fn send(socket: impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let iov = [IoSlice::new(message)];
    rustix::net::sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message into `buffer`: its length and its descriptors. Length 0: the other end is gone.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(buffer)];
    let got = rustix::net::recvmsg(socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::other("a message was cut off"));
    }
    Ok((got.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_bounds_and_its_descriptors() {
        let (a, b) = pair().unwrap();
        let (x, _y) = pair().unwrap();
        send(&a, b"one", &[x.as_fd(), x.as_fd()]).unwrap();
        send(&a, b"two", &[]).unwrap();
        let mut buffer = [0; 64];
        let (len, fds) = receive(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..len], fds.len()), (&b"one"[..], 2));
        let (len, fds) = receive(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..len], fds.len()), (&b"two"[..], 0));
        drop(a);
        assert_eq!(receive(&b, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error_and_not_its_half() {
        let (a, b) = pair().unwrap();
        send(&a, b"0123456789", &[]).unwrap();
        assert!(receive(&b, &mut [0; 4]).is_err());
    }
}
