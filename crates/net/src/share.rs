//! Places that all sandboxes share: nobody who has many keeps another from having some.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Half of the places are for whoever comes first. The other half is kept for those that have no more than an equal share of it.
#[derive(Debug)]
pub(crate) struct Shared {
    places: Arc<Semaphore>,
    all: usize,
}

/// What one sandbox has of them, up to a bound of its own.
#[derive(Debug)]
pub(crate) struct Own {
    places: Arc<Semaphore>,
    most: usize,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

impl Shared {
    pub(crate) fn new(all: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    /// Those that somebody has.
    pub(crate) fn taken(&self) -> usize {
        self.all - self.places.available_permits()
    }

    /// One for a sandbox, of which there are so many.
    pub(crate) fn take(&self, own: &Own, sandboxes: usize) -> Option<Place> {
        let kept = self.all / 2;
        let share = (kept / sandboxes.max(1)).max(1);
        if self.places.available_permits() <= kept && own.taken() >= share {
            return None;
        }
        Some(Place {
            _own: own.take()?,
            _shared: Arc::clone(&self.places).try_acquire_owned().ok()?,
        })
    }
}

impl Own {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    fn taken(&self) -> usize {
        self.most - self.places.available_permits()
    }

    /// One that counts for the sandbox alone.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_has_more_than_the_bound() {
        let (shared, own) = (Shared::new(100), Own::new(10));
        let taken: Vec<_> = (0..20).filter_map(|_| shared.take(&own, 1)).collect();
        assert_eq!((taken.len(), shared.taken()), (10, 10));
        drop(taken);
        assert_eq!((own.taken(), shared.taken()), (0, 0));
    }

    proptest! {
        #[test]
        fn whoever_has_less_than_a_share_gets_another(
            wishes in prop::collection::vec(0_usize..8, 0..400),
            last in 0_usize..8,
        ) {
            let shared = Shared::new(64);
            let own: Vec<_> = (0..8).map(|_| Own::new(32)).collect();
            let mut taken: Vec<_> = wishes.iter().filter_map(|&who| shared.take(&own[who], 8)).collect();
            while own[last].taken() < 64 / 2 / 8 {
                let next = shared.take(&own[last], 8);
                prop_assert!(next.is_some());
                taken.extend(next);
            }
        }
    }
}
