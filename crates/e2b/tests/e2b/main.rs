//! This protocol as its clients speak it, to the byte, over the real control and node and a simulated sandbox.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
mod api;
mod files;
mod filesystem;
mod ports;
mod process;
mod volumes;
mod world;
