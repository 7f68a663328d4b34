//! Directories made, names changed, owners set.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::ops::Not;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use crate::files::error::{Doing, FileError};
use crate::users::User;

const DEFAULT_DIR_MODE: u32 = 0o755;

/// Makes a directory and its parents. What is there stays as it is.
pub(super) fn make_dir(path: &Path, mode: u32, user: &User) -> Result<(), FileError> {
    let is_missing = |path: &&Path| fs::metadata(path).is_ok_and(|found| found.is_dir()).not();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    for folder in missing.into_iter().rev() {
        let mode = if folder == path { mode } else { 0 };
        make_one(folder, mode, user)?;
    }
    Ok(())
}

fn make_one(path: &Path, mode: u32, user: &User) -> Result<(), FileError> {
    let mode = if mode == 0 {
        DEFAULT_DIR_MODE
    } else {
        mode & 0o7777
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        Err(error) => return Err(error).doing("make", path),
    }
    give(path, user).doing("give away", path)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).doing("make", path)
}

/// Makes `user` the owner, where that is a change.
fn give(path: &Path, user: &User) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if (found.uid(), found.gid()) == (user.uid, user.gid) {
        return Ok(());
    }
    lchown(path, Some(user.uid), Some(user.gid))
}

/// Renames, replacing a file that is in the way.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).doing("move", from)
}
