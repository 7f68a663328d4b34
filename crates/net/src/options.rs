//! What an operator can set, and the part of it that the gateway process is told.

use std::ffi::OsString;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// How a node's network is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command that runs [`crate::gateway::main`]; the [`Config`] is added as last argument.
    pub command: Vec<OsString>,
    /// Private folder for the control socket, the lock and the log of the gateway.
    pub dir: PathBuf,
    /// The gateway's own settings.
    pub config: Config,
}

/// The settings of the gateway process. Only `egress_allow` and what `resolv_conf` says can change while it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Addresses of sandboxes; its first one is the gateway's.
    pub subnet: Ipv4Net,
    /// Networks that sandboxes may reach although the policy keeps such addresses away from them.
    pub egress_allow: Vec<IpNet>,
    /// Network namespaces kept ready, of each kind.
    pub pool: usize,
    /// Connections open at once, of all sandboxes.
    pub connections: usize,
    /// Connections open at once, of one sandbox.
    pub connections_per_sandbox: usize,
    /// Seconds without a byte in either direction after which a connection is closed.
    pub idle_seconds: u64,
    /// Seconds that the gateway stays when it has neither sandboxes nor a daemon.
    pub linger_seconds: u64,
    /// Where the host's name servers are written; the daemon looks into it every other second.
    pub resolv_conf: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            subnet: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 213, 0, 0), 16),
            egress_allow: Vec::new(),
            pool: 8,
            connections: 2048,
            connections_per_sandbox: 256,
            idle_seconds: 3600,
            linger_seconds: 60,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}
