//! The docker driver against Podman's service, with a store of its own. It needs root and Podman, and says so where they are not.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says when it is left out"
)]

mod bed;
mod conformance;
mod service;
