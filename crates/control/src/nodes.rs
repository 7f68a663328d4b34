//! The nodes there are, and which of them takes a sandbox.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use skerry_proto::node::Node;
use skerry_store::Sandbox as Row;
use skerry_types::{Error, NodeId, Result};

use crate::validate::shown;

/// A driver that a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// ns, gvisor, vm, docker, fly or sim.
    pub driver: String,
    /// What it puts between sandbox and host: none, namespace, `application_kernel`, vm or remote.
    pub isolation: String,
    /// Its sandboxes can have volumes.
    pub volumes: bool,
}

/// What a sandbox needs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// This driver.
    pub driver: Option<String>,
    /// At least this isolation.
    pub isolation: Option<String>,
    /// It has volumes.
    pub volumes: bool,
    /// In this region.
    pub region: String,
}

impl Wish {
    /// What a sandbox on record needs.
    pub(crate) fn of(row: &Row) -> Self {
        Self {
            driver: row.wanted.driver.clone(),
            isolation: row.wanted.isolation.clone(),
            volumes: !row.volumes.is_empty(),
            region: row.region.clone(),
        }
    }

    /// Anything will do but the region.
    pub(crate) fn is_open(&self) -> bool {
        self.driver.is_none() && self.isolation.is_none() && !self.volumes
    }
}

/// Kinds of isolation, weakest first.
pub(crate) const ISOLATIONS: [&str; 5] =
    ["none", "namespace", "application_kernel", "vm", "remote"];

fn strength(isolation: &str) -> Option<usize> {
    ISOLATIONS.iter().position(|i| *i == isolation)
}

impl Offer {
    fn meets(&self, wish: &Wish) -> bool {
        (self.volumes || !wish.volumes)
            && wish.driver.as_ref().is_none_or(|d| *d == self.driver)
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
        let there = self.region == wish.region;
        self.offers.iter().find(|o| there && o.meets(wish))
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
        let fits = |m: &&Member| m.facts.offer(wish).is_some();
        let fitting: Vec<_> = self.all().iter().filter(fits).collect();
        if fitting.is_empty() {
            return Err(self.refusal(wish));
        }
        Ok(fitting)
    }

    fn refusal(&self, wish: &Wish) -> Error {
        let regions: BTreeSet<&str> = self.all().iter().map(|m| m.facts.region.as_str()).collect();
        if !regions.contains(wish.region.as_str()) {
            return Error::validation(format!(
                "region `{}` does not exist; there is: {}",
                shown(&wish.region),
                join(regions)
            ));
        }
        let here = self.all().iter().filter(|m| m.facts.region == wish.region);
        let there: BTreeSet<String> = here
            .flat_map(|m| &m.facts.offers)
            .map(|o| format!("{} (isolation {})", o.driver, o.isolation))
            .collect();
        let driver = wish.driver.iter().map(|d| format!("driver {d}"));
        let isolation = wish.isolation.iter();
        let isolation = isolation.map(|i| format!("isolation {i} or stronger"));
        let volumes = wish.volumes.then(|| "volumes".to_owned());
        let wanted: Vec<_> = driver.chain(isolation).chain(volumes).collect();
        Error::unsupported(format!(
            "no node here offers {}; there is: {}",
            wanted.join(" with "),
            join(there.iter().map(String::as_str))
        ))
        .with_hint("leave out driver and isolation to take what there is; `skerry doctor` says what would add more")
    }

    /// One of them.
    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.0.iter().find(|m| m.facts.id == id)
    }
}

/// Words of a message, with commas between them.
pub(crate) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    if words.is_empty() {
        return "none".to_owned();
    }
    words.join(", ")
}
