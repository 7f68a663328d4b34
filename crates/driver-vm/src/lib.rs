//! The vm driver: each sandbox a virtual machine, run by a QEMU that is itself locked in.
//!
//! * A machine boots once for each kind ([`template`]) and is copied from then on: its memory is a file that copies map privately, so a new
//!   sandbox costs the pages it touches. The same way a live sandbox is kept, forked, and paused to disk.
//! * The base disk, with an image's layers, is made once per image and never written; what a sandbox writes is on a disk of its own ([`disk`]).
//! * QEMU has a user, namespaces and a control group of its own, a root with nothing but its files, and no right at all ([`launcher`]): who breaks
//!   out of the guest stands in another cage.
//!
//! Invariants: a memory file is written once, before anybody maps it; no path that QEMU or the guest could have changed is followed on the host.
#![warn(missing_docs)]

mod accelerator;
mod base;
mod capabilities;
mod clock;
mod control;
mod cpio;
mod create;
mod disk;
mod driver;
mod engine;
mod error;
mod keep;
mod kernel;
pub mod launcher;
mod layout;
mod link;
mod live;
mod machine;
mod memory;
mod options;
mod process;
mod qmp;
mod record;
mod remove;
mod room;
mod snapshot;
mod still;
mod survey;
mod template;

pub use capabilities::capabilities;
pub use driver::VmDriver;
pub use engine::EngineError;
pub use options::{Options, Programs, Tools};
pub use survey::{Survey, survey};
