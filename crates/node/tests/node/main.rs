//! A node over simulated sandboxes: what it promises, whatever fails below it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod again;
mod bed;
mod budget;
mod dial;
mod egress;
mod ends;
mod files;
mod hostile;
mod life;
mod links;
mod prepared;
mod publish;
mod ready;
mod restart;
mod sessions;
mod sleep;
mod snapshots;
mod still;
mod volumes;
