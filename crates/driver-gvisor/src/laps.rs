//! Where the time of something goes.

use std::time::{Duration, Instant};

use skerry_driver::Step;

/// A watch that is read after each step.
#[derive(Debug)]
pub(crate) struct Laps {
    began: Instant,
    last: Instant,
    done: Vec<Step>,
}

impl Laps {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last: now,
            done: Vec::new(),
        }
    }

    /// The step with this name ends now.
    pub(crate) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        self.push(name, now - self.last);
        self.last = now;
    }

    pub(crate) fn total(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn end(mut self) -> Vec<Step> {
        self.push("total", self.began.elapsed());
        self.done
    }

    fn push(&mut self, name: &str, took: Duration) {
        self.done.push(Step {
            name: name.to_owned(),
            took,
        });
    }
}
