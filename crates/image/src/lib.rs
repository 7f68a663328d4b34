//! Images: stacks of read-only layers, named, shared and collected.
//!
//! Layers are folders named by their content; a driver stacks them below a sandbox's own writable layer.
//! Invariants: a layer under its name is complete, and whatever is unfinished lies in `work/`; nothing that
//! an archive or a registry says reaches the host outside the folder it is unpacked into.
#![warn(missing_docs)]

mod base;
mod digest;
mod error;
mod host;
mod image;
mod import;
mod index;
mod job;
mod layers;
mod layout;
mod manifest;
mod pack;
mod progress;
mod reach;
mod reference;
mod registry;
mod room;
mod store;
mod turns;
mod unpack;

pub use base::BaseError;
pub use error::{ImageError, Result};
pub use image::{Bind, Config, Image, Kind};
pub use progress::{Phase, Progress, Update};
pub use reach::{Judge, PrivateRegistry, Reach};
pub use reference::{BASE, HOST};
pub use registry::Auth;
pub use room::{Room, Scratch};
pub use store::{Hold, Images, Options, Pin};
pub use unpack::{Limits, UnpackError};
