//! The nodes there are, and which of them takes a sandbox.

use std::fmt;
use std::sync::Arc;

use skerry_proto::node::Node;
use skerry_types::NodeId;

/// A driver that a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// ns, gvisor, vm, docker, fly or sim.
    pub driver: String,
    /// What it puts between sandbox and host: none, namespace, `application_kernel`, vm or remote.
    pub isolation: String,
}

/// What is known of a node before asking it anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Which.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Where it stands.
    pub region: String,
    /// Sandboxes it may hold at once.
    pub slots: u32,
    /// What it can isolate with; the first is its default.
    pub offers: Vec<Offer>,
}

/// A node and how to reach it.
#[derive(Clone)]
pub struct Member {
    /// What is known of it.
    pub facts: NodeFacts,
    /// The way to it.
    pub handle: Arc<dyn Node>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.fmt(f)
    }
}

/// The nodes there are.
#[derive(Debug, Clone, Default)]
pub struct Nodes(Arc<Vec<Member>>);

impl Nodes {
    /// These nodes.
    pub fn new(members: Vec<Member>) -> Self {
        Self(Arc::new(members))
    }

    /// All of them.
    pub fn all(&self) -> &[Member] {
        &self.0
    }

    /// One of them.
    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.0.iter().find(|m| m.facts.id == id)
    }
}
