//! What waits to be sent on the current link.
//!
//! Bounded by construction: output by each exec's window, file data by each request's credit, and answers because the link
//! reads no further message while more than [`FULL`] wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use skerry_proto::agent::{FromAgent, from_agent::Body};
use tokio::sync::Notify;

/// So many waiting messages and the link stops reading.
const FULL: usize = 4096;

/// One queue for the life of the agent; messages for a link that is gone are dropped.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    linked: Cell<bool>,
    queue: RefCell<VecDeque<Body>>,
    filled: Notify,
    emptied: Notify,
}

impl Outbox {
    /// Starts anew, for a new link.
    pub(crate) fn open(&self) {
        self.queue.borrow_mut().clear();
        self.linked.set(true);
    }

    /// The link is gone.
    pub(crate) fn close(&self) {
        self.linked.set(false);
        *self.queue.borrow_mut() = VecDeque::new();
        self.emptied.notify_waiters();
    }

    /// Queues a message, if anybody is there to get it.
    pub(crate) fn send(&self, body: Body) {
        if self.linked.get() {
            self.queue.borrow_mut().push_back(body);
            self.filled.notify_one();
        }
    }

    /// The next message to send.
    pub(crate) async fn next(&self) -> FromAgent {
        loop {
            if let Some(message) = self.try_next() {
                return message;
            }
            self.filled.notified().await;
        }
    }

    /// The next message, if one waits.
    pub(crate) fn try_next(&self) -> Option<FromAgent> {
        let body = self.queue.borrow_mut().pop_front()?;
        self.emptied.notify_waiters();
        Some(FromAgent { body: Some(body) })
    }

    /// Until a peer that asks faster than it reads has read.
    pub(crate) async fn has_room(&self) {
        while self.queue.borrow().len() > FULL {
            self.emptied.notified().await;
        }
    }

    /// Until all is handed to the link, or there is none.
    pub(crate) async fn flushed(&self) {
        while !self.queue.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }
}
