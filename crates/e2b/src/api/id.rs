//! Ids as these clients write them: lower-case, and early ones with more behind a hyphen.

use serde::{Deserialize, Deserializer, de};
use skerry_types::SandboxId;

/// A sandbox in a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named(pub(super) SandboxId);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let id = text.split('-').next().unwrap_or_default();
        id.parse().map(Self).map_err(de::Error::custom)
    }
}
