//! Directories of a tree that are still to be looked at: as many as a bound on memory allows, whatever the tree.

use std::path::{Path, PathBuf};

use crate::files::error::FileError;

/// Bytes of the paths that are kept at once.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What a kept path costs beside its bytes.
pub(super) const PATH_COST: usize = 64;

/// The last one added is looked at first, so that a deep tree needs little.
#[derive(Debug)]
pub(super) struct Folders<T> {
    stack: Vec<(PathBuf, T)>,
    bytes: usize,
}

impl<T> Folders<T> {
    pub(super) fn of(root: PathBuf, what: T) -> Self {
        Self {
            bytes: cost(&root),
            stack: vec![(root, what)],
        }
    }

    pub(super) fn push(&mut self, folder: PathBuf, what: T) -> Result<(), FileError> {
        self.bytes += cost(&folder);
        if self.bytes > MAX_BYTES {
            return Err(FileError::TooWide(folder));
        }
        self.stack.push((folder, what));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<(PathBuf, T)> {
        let next = self.stack.pop()?;
        self.bytes -= cost(&next.0);
        Some(next)
    }
}

fn cost(folder: &Path) -> usize {
    PATH_COST + folder.as_os_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_may_be_deep_but_not_too_wide_for_memory() {
        let mut folders = Folders::of(PathBuf::new(), ());
        for depth in 0..100_000 {
            folders.pop().unwrap();
            folders
                .push(PathBuf::from("x".repeat(depth % 4000)), ())
                .unwrap();
        }
        let wide = (0..100_000).try_for_each(|_| folders.push(PathBuf::from("folder"), ()));
        assert!(matches!(wide, Err(FileError::TooWide(_))));
    }
}
