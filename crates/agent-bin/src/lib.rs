//! The agent, built static, as bytes: how one `skerry` binary carries what goes into every sandbox.
#![warn(missing_docs)]

/// An executable for this machine's architecture that needs no file of any image.
pub static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/skerry-agent"));

/// The first process of a virtual machine, likewise.
pub static GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/skerry-guest"));
