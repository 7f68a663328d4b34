//! Room on the disk beside the volumes, for one who is about to write a large file there.

use std::sync::Arc;

use crate::size::RESERVE_BYTES;
use crate::{Storage, StorageError, Store, free_bytes, must_have};

/// Bytes of the disk that neither the pool nor anybody else takes until this is dropped.
#[derive(Debug)]
pub struct Room {
    store: Arc<Store>,
    bytes: u64,
}

impl Storage {
    /// Keeps that many bytes of the data folder's disk for the caller, if they are free beyond what is kept back.
    pub fn room(&self, bytes: u64) -> Result<Room, StorageError> {
        let mut promised = self.store.promised.lock();
        let free = free_bytes(&self.store.data)?.saturating_sub(*promised);
        must_have(free, RESERVE_BYTES.saturating_add(bytes))?;
        *promised += bytes;
        Ok(Room {
            store: Arc::clone(&self.store),
            bytes,
        })
    }
}

impl Store {
    pub(crate) fn promised(&self) -> u64 {
        *self.promised.lock()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *self.store.promised.lock() -= self.bytes;
    }
}
