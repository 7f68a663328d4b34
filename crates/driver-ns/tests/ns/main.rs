//! The namespace driver against the kernel of this machine.
//!
//! As root everything is tried; as an ordinary user what needs root says that it is left out.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod agent;
mod bed;
mod conformance;
mod crash;
mod life;
mod limits;
mod memory;
mod network;
mod range;
mod rootless;
mod walls;
