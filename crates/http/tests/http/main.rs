//! The edge through its public door: a real server over real control, with a node in memory behind it.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::match_same_arms,
    reason = "modules of one test binary, with tables in them"
)]

mod guard;
mod input;
mod log;
mod node;
mod operations;
mod options;
mod pages;
mod ports;
mod serving;
mod streams;
mod surface;
mod tls;
mod volumes;
mod world;
