//! What several journals take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the journals that were opened for writing with it, and their bytes, until they are taken off.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    journals: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    /// Bytes now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Journals now.
    pub fn journals(&self) -> u64 {
        self.0.journals.load(Ordering::Relaxed)
    }

    /// Counts a journal with these bytes.
    pub(crate) fn begin(&self, bytes: u64) {
        self.0.journals.fetch_add(1, Ordering::Relaxed);
        self.add(bytes);
    }

    /// One that is counted has grown by these.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A journal of so many bytes was removed, or is counted elsewhere from now on.
    pub fn take_off(&self, bytes: u64) {
        self.0.journals.fetch_sub(1, Ordering::Relaxed);
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
