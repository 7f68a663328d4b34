//! What tests of several crates share.

pub mod host;
pub mod postgres;
pub mod server;
pub mod wait;
