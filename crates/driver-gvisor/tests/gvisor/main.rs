//! The gvisor driver against `runsc` on this machine. It needs root, and says so where it is not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod conformance;
