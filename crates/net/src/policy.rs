//! Which addresses sandboxes may reach: a pure decision.

use ipnet::{IpNet, Ipv4Net};

/// The rules of one node.
#[derive(Debug, Clone)]
pub struct Policy {
    allow: Vec<IpNet>,
    subnet: Ipv4Net,
}

impl Policy {
    /// Rules with exceptions for `allow`, on a node whose sandboxes live in `subnet`.
    pub fn new(allow: Vec<IpNet>, subnet: Ipv4Net) -> Self {
        Self { allow, subnet }
    }
}
