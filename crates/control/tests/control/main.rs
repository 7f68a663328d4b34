//! Control against a real store and a node in memory that breaks on command.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod create;
mod egress;
mod ends;
mod fake;
mod forks;
mod keys;
mod once;
mod races;
mod recovery;
mod snapshots;
mod start;
mod templates;
mod volumes;
mod world;
