//! What the driver is given.

use std::path::PathBuf;

use crate::Engine;

/// What the driver is given.
#[derive(Debug)]
pub struct Options {
    /// The node's folder; the driver keeps its records in `docker` below. Only this user may look into it.
    pub data_dir: PathBuf,
    /// The static agent.
    pub agent: &'static [u8],
    /// The engine, found and asked.
    pub engine: Engine,
    /// What names of images and containers begin with, so that two nodes may share an engine: lower-case letters, digits and `-`.
    pub scope: String,
}
