//! What clients note on files: extended attributes, in headers and answers by what follows their prefix.

use axum::http::HeaderMap;
use skerry_proto::agent::{MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES};
use skerry_proto::node::{FileEntry, Map};
use skerry_types::{Error, Result};

/// What the names of these attributes begin with.
pub(super) const PREFIX: &str = "user.e2b.";
const HEADER: &str = "x-metadata-";

/// The attributes that headers ask for.
pub(super) fn asked(headers: &HeaderMap) -> Result<Map> {
    let mut asked = Map::new();
    for (name, value) in headers {
        let Some(key) = name
            .as_str()
            .strip_prefix(HEADER)
            .filter(|key| !key.is_empty())
        else {
            continue;
        };
        let value = std::str::from_utf8(value.as_bytes());
        let value = value.map_err(|_| Error::validation(format!("{name}: must be UTF-8")))?;
        asked.insert(format!("{PREFIX}{key}"), value.to_owned());
    }
    let bytes: usize = asked
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if asked.len() > MAX_ATTRIBUTES || bytes > MAX_ATTRIBUTE_BYTES {
        return Err(Error::validation(format!(
            "a file may have {MAX_ATTRIBUTES} metadata of {MAX_ATTRIBUTE_BYTES} bytes together"
        )));
    }
    Ok(asked)
}

/// What is noted on a file.
pub(crate) fn of(entry: &FileEntry) -> Map {
    let ours = |(name, value): (&String, &String)| {
        Some((name.strip_prefix(PREFIX)?.to_owned(), value.clone()))
    };
    entry.attributes.iter().filter_map(ours).collect()
}
