//! The namespace driver: sandboxes fenced by namespaces, an overlay, seccomp, capabilities and control groups.
//!
//! [`NsDriver`] keeps the records and the resources; the [`spawner`], another process, makes the namespaces and nothing else. Invariants: a
//! sandbox depends on no process of ours outside it; whatever step a crash interrupts, `run/<label>` says that there is something to remove;
//! nothing that a sandbox can write is ever followed, parsed or executed on the host.
#![warn(missing_docs)]

mod capabilities;
mod driver;
pub mod memory;
mod options;
mod processes;
mod record;
mod remove;
mod seccomp;
mod site;
mod snapshots;
pub mod spawner;
mod start;
mod users;

pub use capabilities::capabilities;
pub use driver::NsDriver;
pub use options::Options;
pub use users::{UsersError, enter as enter_users};
