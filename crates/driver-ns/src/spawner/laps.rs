//! Where the time of a start goes.

use std::time::Instant;

use super::message::Lap;

/// A watch that is read after each step.
#[derive(Debug)]
pub(crate) struct Laps {
    last: Instant,
    done: Vec<Lap>,
}

impl Laps {
    pub(crate) fn start() -> Self {
        Self {
            last: Instant::now(),
            done: Vec::new(),
        }
    }

    /// The step with this name ends now.
    pub(crate) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        self.done.push(Lap {
            name: name.to_owned(),
            took: now - self.last,
        });
        self.last = now;
    }

    pub(crate) fn into_laps(self) -> Vec<Lap> {
        self.done
    }
}
