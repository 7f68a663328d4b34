//! Bytes on their way into a process, counted so that a broken link neither loses nor doubles one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use bytes::{Buf, Bytes};
use skerry_proto::agent::STDIN_WINDOW_BYTES;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// The queue before one process's stdin.
#[derive(Debug, Default)]
pub(crate) struct Stdin {
    queue: RefCell<VecDeque<Bytes>>,
    /// Bytes received from the node.
    received: Cell<u64>,
    /// Bytes the process's pipe took.
    taken: Cell<u64>,
    eof: Cell<bool>,
    closed: Cell<bool>,
    changed: Notify,
}

impl Stdin {
    /// A stdin that nobody reads.
    pub(crate) fn closed() -> Self {
        let stdin = Self::default();
        stdin.closed.set(true);
        stdin
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.get()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Takes what is new of these bytes. A gap, or more than the window, is left out; the node sees that in the acknowledgement.
    pub(crate) fn push(&self, offset: u64, mut data: Bytes, eof: bool) {
        let received = self.received.get();
        let end = offset.saturating_add(data.len() as u64);
        if self.closed.get() || offset > received || end < received {
            return;
        }
        let known = usize::try_from(received - offset).unwrap_or(usize::MAX);
        data.advance(known.min(data.len()));
        let window = STDIN_WINDOW_BYTES - (received - self.taken.get());
        let fits = usize::try_from(window).unwrap_or(0).min(data.len());
        let whole = fits == data.len();
        data.truncate(fits);
        if !data.is_empty() {
            self.received.set(received + data.len() as u64);
            self.queue.borrow_mut().push_back(data);
        }
        if eof && whole {
            self.eof.set(true);
        }
        self.changed.notify_one();
    }

    /// Nobody reads any more.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.queue.borrow_mut().clear();
    }

    /// Feeds `fd` until the end of the bytes, or of their reader; `report` hears of each step.
    pub(crate) async fn feed(&self, fd: &AsyncFd<OwnedFd>, report: impl Fn()) {
        loop {
            while let Some(chunk) = self.front() {
                match write(fd, &chunk).await {
                    Ok(count) => self.advance(count),
                    Err(_nobody_reads) => {
                        self.close();
                        report();
                        return;
                    }
                }
                report();
            }
            if self.eof.get() {
                return;
            }
            self.changed.notified().await;
        }
    }

    fn front(&self) -> Option<Bytes> {
        self.queue.borrow().front().cloned()
    }

    fn advance(&self, count: usize) {
        self.taken.set(self.taken.get() + count as u64);
        let mut queue = self.queue.borrow_mut();
        if let Some(front) = queue.front_mut() {
            front.advance(count.min(front.len()));
            if front.is_empty() {
                queue.pop_front();
            }
        }
    }
}

/// Writes all of `data`.
pub(crate) async fn write_all(fd: &AsyncFd<OwnedFd>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let count = write(fd, data).await?;
        data = &data[count..];
    }
    Ok(())
}

async fn write(fd: &AsyncFd<OwnedFd>, data: &[u8]) -> io::Result<usize> {
    loop {
        let mut ready = fd.writable().await?;
        match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?)) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(done) => return done,
            Err(_would_block) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(stdin: &Stdin) -> Vec<u8> {
        stdin.queue.borrow().iter().flatten().copied().collect()
    }

    #[test]
    fn repeated_bytes_count_once_and_gaps_wait_for_their_filling() {
        let stdin = Stdin::default();
        stdin.push(0, Bytes::from_static(b"abc"), false);
        stdin.push(1, Bytes::from_static(b"bcd"), false);
        stdin.push(9, Bytes::from_static(b"zz"), true);
        stdin.push(0, Bytes::from_static(b"a"), false);
        assert_eq!(queued(&stdin), b"abcd");
        assert!(!stdin.eof.get());
        stdin.push(4, Bytes::new(), true);
        assert!(stdin.eof.get());
    }

    #[test]
    fn more_than_the_window_is_not_kept() {
        let stdin = Stdin::default();
        let much = Bytes::from(vec![0; 200 * 1024]);
        stdin.push(0, much.clone(), false);
        stdin.push(much.len() as u64, much, true);
        assert_eq!(stdin.received(), STDIN_WINDOW_BYTES);
        assert!(!stdin.eof.get());
    }
}
