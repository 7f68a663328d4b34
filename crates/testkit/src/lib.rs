//! What tests of several crates share.

pub mod host;
pub mod postgres;
pub mod root;
pub mod server;
pub mod wait;
