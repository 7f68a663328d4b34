//! Time as a value, so that a test decides what time it is.

use std::fmt;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// Tells the time and waits for it.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Returns once it is `at` or later.
    async fn sleep_until(&self, at: Timestamp);
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, at: Timestamp) {
        // The monotonic timer does not see steps of the wall clock, so a long wait is taken in pieces.
        const PIECE: SignedDuration = SignedDuration::from_secs(10);
        loop {
            let left = at.duration_since(self.now());
            if left <= SignedDuration::ZERO {
                return;
            }
            tokio::time::sleep(left.min(PIECE).unsigned_abs()).await;
        }
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Timestamp>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(watch::Sender::new(start))
    }

    /// Moves it forward and wakes whoever waited for that time.
    pub fn advance(&self, by: SignedDuration) {
        self.0.send_modify(|now| *now += by);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    async fn sleep_until(&self, at: Timestamp) {
        // The sender lives in `self`, so the channel cannot close while we wait.
        let _now = self
            .0
            .subscribe()
            .wait_for(|now| *now >= at)
            .await
            .map(|now| *now);
    }
}
