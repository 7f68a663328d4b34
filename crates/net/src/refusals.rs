//! Refused connections on their way to the daemon: a bounded queue that outlives it.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::wire::Egress;

/// Refusals kept while nobody fetches them.
const KEPT: usize = 1024;

/// The queue; when it is full the oldest are lost, and counted.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Egress>,
    lost: u64,
}

impl Refusals {
    pub(crate) fn push(&self, event: Egress) {
        let mut queue = self.queue.lock();
        if queue.events.len() == KEPT {
            queue.events.pop_front();
            queue.lost += 1;
        }
        queue.events.push_back(event);
        self.added.notify_one();
    }

    /// Everything refused since the last call and how many were lost; waits for the first.
    pub(crate) async fn next(&self) -> (Vec<Egress>, u64) {
        loop {
            if let Some(batch) = self.drain() {
                return batch;
            }
            self.added.notified().await;
        }
    }

    fn drain(&self) -> Option<(Vec<Egress>, u64)> {
        let mut queue = self.queue.lock();
        if queue.events.is_empty() {
            return None;
        }
        let lost = std::mem::take(&mut queue.lost);
        Some((queue.events.drain(..).collect(), lost))
    }
}
