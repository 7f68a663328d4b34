//! What waits to be sent on the current link. Bounded by what fills it: exec windows, credit, and one answer for each message.

use std::collections::VecDeque;

use parking_lot::Mutex;
use skerry_proto::agent::{FromAgent, from_agent::Body};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct State {
    linked: bool,
    /// Taken from the queue and not on the link yet.
    sending: bool,
    queue: VecDeque<Body>,
}

/// One queue for the life of the agent; messages for a link that is gone are dropped.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
}

impl Outbox {
    pub(crate) fn open(&self) {
        let linked = true;
        *self.state.lock() = State {
            linked,
            ..State::default()
        };
    }

    pub(crate) fn close(&self) {
        *self.state.lock() = State::default();
        self.emptied.notify_one();
    }

    pub(crate) fn send(&self, body: Body) {
        let mut state = self.state.lock();
        if state.linked {
            state.queue.push_back(body);
            self.filled.notify_one();
        }
    }

    pub(crate) async fn next(&self) -> FromAgent {
        loop {
            if let Some(body) = self.pop() {
                return FromAgent { body: Some(body) };
            }
            self.filled.notified().await;
        }
    }

    fn pop(&self) -> Option<Body> {
        let mut state = self.state.lock();
        let body = state.queue.pop_front()?;
        state.sending = true;
        Some(body)
    }

    /// What was taken is on the link.
    pub(crate) fn sent(&self) {
        self.state.lock().sending = false;
        self.emptied.notify_one();
    }

    /// Until all is on the link, or there is none.
    pub(crate) async fn flushed(&self) {
        while !self.is_flushed() {
            self.emptied.notified().await;
        }
    }

    fn is_flushed(&self) -> bool {
        let state = self.state.lock();
        !state.linked || state.queue.is_empty() && !state.sending
    }
}
