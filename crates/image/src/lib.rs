//! Images: stacks of read-only layers, named, shared and collected.
//!
//! Layers are folders named by their content; a driver stacks them below a sandbox's own writable layer.
//! Invariant: a layer under its name is complete; whatever is unfinished lies in `work/`.
#![warn(missing_docs)]

mod digest;
mod error;
mod host;
mod image;
mod index;
mod progress;
mod store;

pub use error::{ImageError, Result};
pub use image::{Bind, Config, Image, Kind};
pub use progress::{Phase, Progress, Update};
pub use store::{HOST, Images};
