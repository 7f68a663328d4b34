//! Sandboxes that are containers of a Docker-compatible engine: Docker, or Podman's service.
//!
//! The engine is asked for everything over its socket; our agent is shown to each container as a file and dials a socket of ours, so exec,
//! files and the journal are those of every other driver. What keeps a container from the host is the engine's doing.
//!
//! * an image is the engine's own copy of our layers, made at first use ([`tree`], [`images`])
//! * a fork, and a snapshot, is a commit: its time grows with what was written
//! * there is no network but `none`: an engine's bridge leads to the host and to neighbours
#![warn(missing_docs)]

mod capabilities;
mod create;
mod driver;
mod engine;
mod images;
mod link;
mod options;
mod record;
mod remove;
mod tree;

pub use capabilities::capabilities;
pub use driver::DockerDriver;
pub use engine::{Engine, EngineError};
pub use options::Options;
