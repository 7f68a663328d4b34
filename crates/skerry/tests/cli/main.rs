//! The command line as people and scripts see it, against real servers.
#![expect(clippy::unwrap_used, reason = "a test may end where it stands")]

mod bed;
mod copies;
mod errors;
mod execs;
mod help;
mod life;
mod login;
mod machines;
mod rest;
mod snapshots;
mod templates;
mod terminal;
mod tls;
mod volumes;
