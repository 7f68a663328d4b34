//! The store's whole suite, run on `SQLite` and on PostgreSQL.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod bed;
mod deletions;
mod forks;
mod idempotency;
mod keys;
mod lists;
mod model;
mod queue;
mod races;
mod schema;
mod snapshots;
mod states;
mod templates;
mod tenancy;
mod trouble;
mod volumes;
