//! Buffers that output is read into, used again and again: mapping and clearing new memory for each chunk costs more than reading it.

use std::cell::RefCell;

use bytes::Bytes;
use skerry_proto::agent::WINDOW_BYTES;
use skerry_proto::frame::CHUNK_BYTES;

/// A chunk of less than this is kept in a buffer of its own size.
const SMALL_BYTES: usize = 16 * 1024;
/// Unused buffers that are kept: as many as one exec has under way.
const KEPT: usize = WINDOW_BYTES / CHUNK_BYTES;

thread_local! {
    /// Of the loop's thread, the only one that reads output.
    static UNUSED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Room for one chunk, which is used again when nobody needs its bytes any more.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    pub(super) fn get() -> Self {
        let unused = UNUSED.with_borrow_mut(Vec::pop);
        Self {
            bytes: unused.unwrap_or_else(|| vec![0; CHUNK_BYTES]),
            filled: 0,
        }
    }

    /// Where to read to.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `filled` bytes of it.
    pub(super) fn freeze(mut self, filled: usize) -> Bytes {
        if filled < SMALL_BYTES {
            return Bytes::copy_from_slice(&self.bytes[..filled]);
        }
        self.filled = filled;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        UNUSED.with_borrow_mut(|unused| {
            if unused.len() < KEPT {
                unused.push(bytes);
            }
        });
    }
}

/// Gives unused buffers back to the kernel.
pub(crate) fn free() {
    drop(UNUSED.take());
}
