//! Waiting for descriptors where there is no async runtime.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Which of them can be read (a pidfd: whose process is gone), as soon as one can; none of them if none can within that time.
///
/// A signal that comes meanwhile does not matter. To `poll` it does, even with no time to wait: whoever takes its error for an answer takes a
/// process that lives for a dead one.
pub fn readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    patience: Option<Duration>,
) -> io::Result<[bool; N]> {
    let until = patience.map(|patience| Instant::now() + patience);
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose();
        let left = left.map_err(io::Error::other)?;
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Err(Errno::INTR) => {}
            done => {
                done?;
                return Ok(polled.map(|fd| !fd.revents().is_empty()));
            }
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "a signal to one thread has no safe interface")]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::thread::JoinHandleExt;
    use std::thread;

    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    #[tokio::test]
    async fn a_signal_is_no_answer() {
        let _handler = signal(SignalKind::user_defined1()).unwrap();
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        let waiting = thread::spawn(move || readable([ours.as_fd()], None));
        for _ in 0..1000 {
            // SAFETY: the thread waits until there is something to read, and was not joined.
            let sent = unsafe { libc::pthread_kill(waiting.as_pthread_t(), libc::SIGUSR1) };
            assert_eq!(sent, 0);
            thread::yield_now();
        }
        rustix::io::write(&theirs, b"now").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), [true]);
    }
}
