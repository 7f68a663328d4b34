//! Bytes on their way into a program, counted so that a broken link neither loses nor doubles one.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use skerry_proto::agent::STDIN_WINDOW_BYTES;
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Bytes>,
    received: u64,
    taken: u64,
    eof: bool,
    closed: bool,
}

/// The input of one program.
#[derive(Debug, Default)]
pub(super) struct Stdin {
    state: Mutex<State>,
    changed: Notify,
}

impl Stdin {
    /// Empty from the start, if nobody asked for it.
    pub(super) fn new(open: bool) -> Self {
        let stdin = Self::default();
        if !open {
            stdin.close();
        }
        stdin
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.queue.clear();
        self.changed.notify_one();
    }

    /// Takes what is new of these bytes and fits; false if nobody reads them.
    pub(super) fn push(&self, offset: u64, mut data: Bytes, eof: bool) -> bool {
        let mut state = self.state.lock();
        let end = offset.saturating_add(data.len() as u64);
        if !state.closed && offset <= state.received && end >= state.received {
            data.advance((state.received - offset) as usize);
            let window = STDIN_WINDOW_BYTES - (state.received - state.taken);
            let fits = data.len().min(window as usize);
            state.eof |= eof && fits == data.len();
            data.truncate(fits);
            state.received += data.len() as u64;
            state.queue.extend((!data.is_empty()).then_some(data));
            self.changed.notify_one();
        }
        !state.closed
    }

    /// The next bytes; `None` at their end.
    pub(super) async fn read(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(chunk) = state.queue.pop_front() {
                    state.taken += chunk.len() as u64;
                    return Some(chunk);
                }
                if state.eof || state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.state.lock().received
    }

    /// Bytes taken, and whether nobody reads any more.
    pub(super) fn progress(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.taken, state.closed)
    }
}
