//! The agent as a node sees it: the binary that ships, driven over its socket.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod dial;
mod exec;
mod files;
mod hold;
mod link;
mod node;
mod session;
mod tar;
mod terminal;
