//! The network of sandboxes: a namespace for each, and one gateway that decides what leaves them.
//!
//! A separate process, the gateway ([`gateway::main`]), owns every network namespace of a node
//! and outlives the daemon. Sandboxes with a way out hang on a namespace that has no link to the
//! host: their TCP connections and name lookups end at sockets which the gateway holds there, and
//! it makes those that the [`policy`] and the sandbox's own rules allow again from the host's side. So no packet is ever
//! routed between a sandbox and anything else, and nothing of the host is changed.
//!
//! The daemon's side is [`Network`].

mod client;
mod confine;
mod control;
mod dns;
mod error;
mod etc;
mod factory;
mod firewall;
pub mod gateway;
mod greeting;
mod launch;
mod message;
mod names;
mod options;
pub mod policy;
mod refusals;
mod registry;
mod relay;
mod rules;
mod share;
mod upstream;
mod wire;

pub use client::{Netns, Network};
pub use error::{Error, Result};
pub use etc::etc;
pub use options::{Config, Options};
pub use wire::{Facts, Held, NetworkKind, Refusal};
