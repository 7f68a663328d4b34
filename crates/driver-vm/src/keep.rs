//! What a kept machine is: its shape beside its memory, devices and disk.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skerry_driver::{Extent, Spec};

use crate::machine::Shape;

const KEPT: &str = "kept.json";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) extent: Extent,
    pub(crate) shape: Shape,
    pub(crate) spec: Spec,
}

impl Kept {
    /// Written last: without it the folder holds nothing.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(KEPT), serde_json::to_vec(self)?)
    }

    /// `NotFound` where nothing whole is kept.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(folder.join(KEPT))?)?)
    }
}
