//! A node: one actor per sandbox, over a driver that gives it a place to run and an agent inside.
//!
//! Way of a command: `service` (the node.v1 traits) → the sandbox's mailbox → its actor → the agent's link. What comes back goes into the
//! journal first; every answer and stream is read from there.
//!
//! Invariant: only the actor changes its sandbox, writes its journal or talks to its agent.
//! Invariant: nothing is acknowledged to the agent, or told to a reader, before it stands in the journal.
#![warn(missing_docs)]

mod actor;
mod agent;
mod aside;
mod budget;
mod event;
mod gate;
mod history;
mod layout;
mod link;
mod made;
mod meta;
mod names;
mod node;
mod patient;
mod pool;
mod prepared;
mod publish;
mod record;
mod reports;
mod service;
mod snapshots;
mod transfer;
mod volumes;
mod wake;

pub use budget::default_budget;
pub use event::{BootStep, Event, ExecEnded};
pub use gate::Gate;
pub use history::History;
pub use node::{Node, NodeError, Options};
pub use pool::ReadyLimits;
pub use publish::Publish;
