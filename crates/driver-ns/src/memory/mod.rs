//! Memory of sandboxes, kept and woken up by CRIU.
//!
//! Keeping: the agent hangs up, a helper has CRIU write everything but the files and what the spawner makes anyway into the snapshot's folder,
//! the files are copied, and the agent may listen again. Waking up: a sandbox is made as usual, but a helper has CRIU fill it in place of an
//! agent's start. Each helper is a spawner of its own that serves one order, so that no other sandbox waits for it.

mod images;
mod jail;
mod keep;
mod kernel;
mod order;
mod rpc;
mod shm;
mod store;
mod take;
mod tool;
mod trial;
mod wake;

use std::time::Duration;

pub(crate) use keep::keep;
pub(crate) use kernel::Findings;
pub(crate) use order::{Keep, Kept, Wake};
pub(crate) use store::{Memories, Memory};
pub use tool::{Tool, ToolError};
pub(crate) use wake::wake;

/// For each thing that CRIU is asked to do.
const PATIENCE: Duration = Duration::from_mins(1);
/// For a helper to do all that is in an order.
const HELPER_PATIENCE: Duration = Duration::from_secs(90);
/// An open file that was deleted is kept up to this length: none could be woken up.
const GHOST_BYTES: u32 = 0;
/// What an image may be longer than the memory of its sandbox.
const MARGIN_BYTES: u64 = 64 * 1024 * 1024;
/// What was in `/dev/shm`, beside the images.
const SHM: &str = "shm.tar";
