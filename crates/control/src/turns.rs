//! One at a time for each sandbox, also for one that has ended and is in memory no more.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use skerry_types::SandboxId;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Turns by sandbox; one costs nothing while nobody has or wants it.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<SandboxId, Weak<Turn<()>>>>);

impl Turns {
    /// Waits until nobody else has the turn; it ends with the guard.
    pub(crate) async fn take(&self, id: SandboxId) -> OwnedMutexGuard<()> {
        let turn = self.of(id);
        turn.lock_owned().await
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_take(&self, id: SandboxId) -> Option<OwnedMutexGuard<()>> {
        self.of(id).try_lock_owned().ok()
    }

    fn of(&self, id: SandboxId) -> Arc<Turn<()>> {
        let mut turns = self.0.lock();
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(id, Arc::downgrade(&turn));
        turn
    }
}
