//! The real server under bad luck: cut connections, killed processes, full disks, floods of output and of requests.
//!
//! Each test starts a server of its own through the public door and leaves nothing on the machine. `SKERRY_TEST_ALL=1` makes the runs long;
//! `SKERRY_TEST_SEED` repeats one that failed.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says with what seed"
)]

mod again;
mod api;
mod bases;
mod copies;
mod cuts;
mod disk;
mod flood;
mod full;
mod hearts;
mod kills;
mod life;
mod output;
mod ports;
mod power;
mod ready;
mod restart;
mod rootless;
mod sessions;
mod sleep;
mod travel;
mod world;
