//! The journal: one append-only, numbered log per sandbox, durable before anything in it is acknowledged.
//!
//! Every stream, log, list and history is a cursor over it, so a slow or broken reader loses nothing and slows nobody. "Durable" means written
//! to the kernel: no death of any process loses it.
//!
//! Invariant: one writer (the sandbox's actor), any number of readers, no lock held across I/O of a reader.
#![warn(missing_docs)]

mod codec;
mod index;
mod journal;
mod meter;
mod reader;
mod record;

pub use codec::MAX_RECORD_BYTES;
pub use journal::{Appended, Journal, JournalError};
pub use meter::Meter;
pub use reader::{ExecReader, Reader};
pub use record::{Entry, Record, Stream};
