//! The vm driver against real machines: QEMU, translating where there is no KVM.
//!
//! Machines that are translated are slow, so by default only some of the suite's checks run; `SKERRY_TEST_ALL=1` runs all of them.
//! Where QEMU or a kernel is missing, or this is not root, the tests say that they are left out.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod bed;
mod cage;
mod conformance;
mod crash;
mod full;
mod measure;
