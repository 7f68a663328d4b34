//! What was refused, on their way to the daemon: a bounded queue that outlives it.

use std::collections::HashMap;

use parking_lot::Mutex;
use skerry_types::SandboxId;
use tokio::sync::Notify;

use crate::wire::Refusal;

/// Refusals kept while nobody fetches them.
const KEPT: usize = 1024;
/// The share of one sandbox, so that none can make the gateway forget those of others.
const KEPT_PER_SANDBOX: usize = 64;

/// The queue; what does not fit is lost, and counted.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    queue: Mutex<Queue>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: Vec<Refusal>,
    by_sandbox: HashMap<SandboxId, usize>,
    lost: u64,
}

impl Refusals {
    pub(crate) fn push(&self, event: Refusal) {
        let mut queue = self.queue.lock();
        let full = queue.events.len() >= KEPT;
        let share = queue.by_sandbox.entry(event.sandbox).or_default();
        if full || *share >= KEPT_PER_SANDBOX {
            queue.lost += 1;
            return;
        }
        *share += 1;
        queue.events.push(event);
        self.added.notify_one();
    }

    /// Everything refused since the last call and how many were lost; waits for the first.
    pub(crate) async fn next(&self) -> (Vec<Refusal>, u64) {
        loop {
            let batch = std::mem::take(&mut *self.queue.lock());
            if !batch.events.is_empty() {
                return (batch.events, batch.lost);
            }
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn one_sandbox_does_not_hide_another() {
        let refusals = Refusals::default();
        let [loud, quiet] = [SandboxId::new(), SandboxId::new()];
        let refused = |sandbox, port| Refusal {
            sandbox,
            address: Ipv4Addr::new(10, 213, 0, 2),
            destination: "127.0.0.1".to_owned(),
            port: Some(port),
            reason: String::new(),
        };
        for port in 0..10_000 {
            refusals.push(refused(loud, port));
        }
        refusals.push(refused(quiet, 1));
        let (events, lost) = refusals.next().await;
        assert_eq!(events.last().map(|e| e.sandbox), Some(quiet));
        assert_eq!(events.len() as u64 + lost, 10_001);
        assert!(events.len() <= KEPT);
        refusals.push(refused(loud, 2));
        assert_eq!(refusals.next().await, (vec![refused(loud, 2)], 0));
    }
}
