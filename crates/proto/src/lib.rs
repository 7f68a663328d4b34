//! What crosses a process boundary: `agent` between a node and the PID 1 in a sandbox, `guest` between a
//! driver and the first process of a virtual machine, `node` between control and a node.
//!
//! Invariant: no I/O here. Messages are only added to, never changed; the rules of a link stand at the head of [`agent`].
#![warn(missing_docs)]

pub mod agent;
pub mod frame;
pub mod glob;
pub mod guest;
pub mod node;
