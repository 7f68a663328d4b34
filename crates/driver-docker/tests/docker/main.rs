//! The docker driver against Podman's service and Docker's daemon, with stores of their own. It needs root and one of them, and says so where they are not.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says when it is left out"
)]

mod bed;
mod conformance;
mod crash;
mod service;
