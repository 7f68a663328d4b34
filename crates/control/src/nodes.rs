//! The nodes there are, and which of them takes a sandbox.

use std::fmt;
use std::sync::Arc;

use skerry_proto::node::Node;
use skerry_types::{Error, NodeId, Result};

/// A driver that a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// ns, gvisor, vm, docker, fly or sim.
    pub driver: String,
    /// What it puts between sandbox and host: none, namespace, `application_kernel`, vm or remote.
    pub isolation: String,
}

/// What a sandbox needs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// This driver.
    pub driver: Option<String>,
    /// At least this isolation.
    pub isolation: Option<String>,
}

/// Kinds of isolation, weakest first.
pub(crate) const ISOLATIONS: [&str; 5] =
    ["none", "namespace", "application_kernel", "vm", "remote"];

fn strength(isolation: &str) -> Option<usize> {
    ISOLATIONS.iter().position(|i| *i == isolation)
}

impl Offer {
    fn meets(&self, wish: &Wish) -> bool {
        wish.driver.as_ref().is_none_or(|d| *d == self.driver)
            && wish
                .isolation
                .as_ref()
                .is_none_or(|i| strength(&self.isolation) >= strength(i))
    }
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

impl NodeFacts {
    /// The driver that meets the wish; the first of its offers that does.
    pub fn offer(&self, wish: &Wish) -> Option<&Offer> {
        self.offers.iter().find(|o| o.meets(wish))
    }

    /// It can do what is wished.
    pub fn fits(&self, wish: &Wish) -> bool {
        self.offer(wish).is_some()
    }
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

    /// Those that can do what is wished; refused with what there is if there are none.
    pub(crate) fn fitting(&self, wish: &Wish) -> Result<Vec<&Member>> {
        let fitting: Vec<_> = self.all().iter().filter(|m| m.facts.fits(wish)).collect();
        if fitting.is_empty() {
            return Err(self.refusal(wish));
        }
        Ok(fitting)
    }

    fn refusal(&self, wish: &Wish) -> Error {
        let mut there: Vec<_> = self
            .all()
            .iter()
            .flat_map(|m| &m.facts.offers)
            .map(|o| format!("{} (isolation {})", o.driver, o.isolation))
            .collect();
        there.sort();
        there.dedup();
        let driver = wish.driver.as_deref().unwrap_or("any");
        let isolation = wish.isolation.as_deref().unwrap_or("any");
        Error::unsupported(format!(
            "no node here offers driver {driver} with isolation {isolation} or stronger; there is: {}",
            if there.is_empty() { "none".to_owned() } else { there.join(", ") }
        ))
        .with_hint("leave out driver and isolation to take what there is; `skerry doctor` says what would add more")
    }

    /// One of them.
    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.0.iter().find(|m| m.facts.id == id)
    }
}
