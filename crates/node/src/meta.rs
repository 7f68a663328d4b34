//! What a node must remember of a sandbox to run commands in it after a restart. Holds env values, so only its owner may read it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skerry_driver::Spec;
use skerry_image::Image;
use skerry_proto::node::Map;
use skerry_types::SandboxId;

use crate::record;

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// What the driver was asked for.
    pub(crate) spec: Spec,
    /// Which driver.
    pub(crate) driver: String,
    /// The image it was made from, as it was then.
    pub(crate) image: Image,
    /// As whom commands run that do not say.
    pub(crate) user: String,
    /// The environment of everything in it: the image's, then the sandbox's.
    pub(crate) env: Map,
    /// The parent it was forked from.
    pub(crate) forked_from: Option<SandboxId>,
    /// Paused, it wakes up when it is used.
    #[serde(default)]
    pub(crate) auto_resume: bool,
}

impl Meta {
    /// Puts it in place whole.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        record::save(self, path)
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        record::load(path)
    }
}
