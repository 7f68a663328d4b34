//! The gvisor driver against `runsc` on this machine. It needs root, and says so where it is not.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says when it is left out"
)]

mod bed;
mod conformance;
mod crash;
mod measure;
