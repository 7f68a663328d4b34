//! A simulated driver for tests of what stands above drivers: sandboxes in memory, agents that speak agent.v1, and faults on demand.
//!
//! A [`World`] is the simulated machine. It outlives the [`SimDriver`]s over it, as a machine outlives its daemons, and runs its agents on the
//! runtime it was made on. Programs are a few built-in ones (`echo`, `cat`, `seq`, `sleep` …) and a small shell; time is tokio's, so that a
//! paused clock makes everything deterministic.
#![warn(missing_docs)]

mod agent;
mod driver;
mod link;
mod script;
mod shell;
mod tree;
mod world;

pub use driver::SimDriver;
pub use script::{Script, Stage};
pub use world::World;
