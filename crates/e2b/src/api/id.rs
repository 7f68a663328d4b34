//! Ids and names as these clients write them.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use skerry_types::{ParseIdError, SandboxId};

/// A sandbox in a path: lower-case, and from early clients with more behind a hyphen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named(pub(super) SandboxId);

impl FromStr for Named {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let id = text.split('-').next().unwrap_or_default();
        id.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The tag of who names none, there and here.
const THEIRS: &str = "default";
const OURS: &str = "latest";

/// A tag as it is here.
pub(super) fn plain_tag(tag: String) -> String {
    if tag == THEIRS { OURS.to_owned() } else { tag }
}

/// A tag as clients know it.
pub(super) fn shown_tag(tag: String) -> String {
    if tag == OURS { THEIRS.to_owned() } else { tag }
}

/// A name as it is here: clients may put a namespace before it, and say `default` for the tag that we call `latest`.
pub(super) fn plain_name(name: &str) -> String {
    let name = name.strip_suffix(":default").unwrap_or(name);
    name.replace('/', ".")
}
