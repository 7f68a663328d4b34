//! Names in archives, made harmless or refused.

use std::fmt;

use super::meter::Limits;
use super::{Result, UnpackError};

/// What the kernel takes, without the final NUL.
pub(super) const MAX_PATH: usize = 4095;
/// What file systems take for one name.
const MAX_NAME: usize = 255;

/// A relative path of plain names, joined by single slashes; empty for the root of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryPath(Vec<u8>);

impl EntryPath {
    pub(crate) fn new(raw: &[u8], limits: &Limits) -> Result<Self> {
        let shown = || String::from_utf8_lossy(&raw[..raw.len().min(120)]).into_owned();
        if raw.len() > MAX_PATH {
            return Err(UnpackError::PathTooLong(shown()));
        }
        if raw.contains(&0) {
            return Err(UnpackError::NulInPath(shown()));
        }
        if raw.starts_with(b"/") {
            return Err(UnpackError::AbsolutePath(shown()));
        }
        let names: Vec<&[u8]> = raw
            .split(|&b| b == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .collect();
        if names.contains(&b"..".as_slice()) {
            return Err(UnpackError::ParentPath(shown()));
        }
        if names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(UnpackError::PathTooLong(shown()));
        }
        if names.len() > limits.depth {
            return Err(UnpackError::TooDeep {
                path: shown(),
                limit: limits.depth,
            });
        }
        Ok(Self(names.join(&b'/')))
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn starts_with(&self, prefix: &[u8]) -> bool {
        self.0.starts_with(prefix)
    }

    /// The last name; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        let start = self.last_slash().map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// The folder that the last name is in; the root's is the root.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.last_slash().unwrap_or(0)].to_vec())
    }

    /// This path and one more plain name.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }

    fn last_slash(&self) -> Option<usize> {
        self.0.iter().rposition(|&b| b == b'/')
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(raw: &[u8]) -> Result<EntryPath> {
        EntryPath::new(raw, &Limits::default())
    }

    #[test]
    fn dots_and_slashes_that_mean_nothing_go() {
        for raw in ["a/b", "./a/b", "a//b/", "a/./b/."] {
            assert_eq!(parse(raw.as_bytes()).unwrap().bytes(), b"a/b");
        }
        assert!(parse(b"./").unwrap().is_root());
    }

    proptest! {
        /// Whatever comes in, what comes out stays below the folder it is joined to.
        #[test]
        fn no_path_leads_out(raw in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..64)
        ) {
            if let Ok(path) = parse(&raw) {
                prop_assert!(!path.bytes().starts_with(b"/"));
                prop_assert!(!path.bytes().contains(&0));
                if !path.is_root() {
                    for name in path.bytes().split(|&b| b == b'/') {
                        prop_assert!(!matches!(name, b"" | b"." | b".."));
                    }
                }
                prop_assert_eq!(parse(path.bytes()).unwrap(), path.clone());
                if !path.is_root() {
                    prop_assert_eq!(path.parent().join(path.name()), path);
                }
            } else {
                let climbs = raw.split(|&b| b == b'/').any(|name| name == b"..");
                prop_assert!(climbs || raw.starts_with(b"/") || raw.contains(&0));
            }
        }
    }
}
