//! The gvisor driver: sandboxes behind a kernel of their own in user space, `runsc`.
//!
//! * [`launch`] is another process: it mounts the sandbox's files where nobody else sees them, enters its control group and its network, and
//!   becomes `runsc`, which starts two processes and ends:
//! * the **sentry**, the sandbox's kernel: uid 65534 without any capability in a user namespace of its own, an empty root, seccomp. It has no
//!   file of the host but those it is handed open;
//! * the **gofer**, which opens files for it: root of a user namespace that has nothing but the sandbox's ids, in namespaces of its own, with
//!   the sandbox's tree as its root, seccomp.
//!
//! `runsc` itself runs as the host's root for as long as a call takes, since it must enter the sandbox's network and map its users.
//!
//! Invariants: a sandbox depends on no process of ours outside it; whatever step a crash interrupts, `gvisor/<label>` says that there is
//! something to remove; each call of `runsc` has a limit on its time.
#![warn(missing_docs)]

mod bundle;
mod call;
mod capabilities;
mod driver;
mod etc;
mod laps;
pub mod launch;
mod link;
mod live;
mod options;
mod pause;
mod processes;
mod record;
mod remove;
mod snapshots;
mod start;
mod tool;

pub use capabilities::capabilities;
pub use driver::GvisorDriver;
pub use options::Options;
pub use tool::{Tool, ToolError};
