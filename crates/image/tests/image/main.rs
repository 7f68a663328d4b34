//! The store of images seen from outside; one binary, so that it is linked once.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails may do so loudly"
)]

mod base;
mod common;
mod hostile;
mod import;
mod pull;
mod real;
mod store;
