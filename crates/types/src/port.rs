//! A port of a sandbox, and where it is reached.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A port of a sandbox that is reached at a port of its node, by whoever reaches that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port inside.
    pub port: u16,
    /// Where the node listens for it.
    pub address: SocketAddr,
}
