//! Extended attributes of files: those of `user.`, which programs make for themselves.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{XattrFlags, flistxattr, fremovexattr, fsetxattr, lgetxattr, llistxattr};
use rustix::io::Errno;
use skerry_proto::agent::{Attribute, MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES};

use crate::files::error::{Doing, FileError};

const USER: &[u8] = b"user.";

/// What a path has, as far as it fits. No link is followed.
pub(super) fn of(path: &Path) -> Vec<Attribute> {
    let mut names = [0; MAX_ATTRIBUTE_BYTES];
    // A file system without any, or a list that is too long.
    let Ok(size) = llistxattr(path, &mut names) else {
        return Vec::new();
    };
    let mut room = MAX_ATTRIBUTE_BYTES;
    let mut found = Vec::new();
    for name in with_prefix(&names[..size], USER).take(MAX_ATTRIBUTES) {
        let mut value = [0; MAX_ATTRIBUTE_BYTES];
        let Ok(size) = lgetxattr(path, OsStr::from_bytes(name), &mut value) else {
            continue;
        };
        let Some(left) = room.checked_sub(name.len() + size) else {
            break;
        };
        room = left;
        found.push(Attribute {
            name: Bytes::copy_from_slice(name),
            value: Bytes::copy_from_slice(&value[..size]),
        });
    }
    found
}

/// Makes `new` all that the file has below `prefix`.
pub(super) fn replace(
    file: &File,
    prefix: &str,
    new: &[Attribute],
    path: &Path,
) -> Result<(), FileError> {
    let is_ours = |name: &[u8]| name.starts_with(prefix.as_bytes());
    if !prefix.as_bytes().starts_with(USER) || !new.iter().all(|new| is_ours(&new.name)) {
        return Err(Errno::PERM).doing("describe", path);
    }
    let mut names = [0; MAX_ATTRIBUTE_BYTES];
    let size = match flistxattr(file, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed.doing("describe", path)?,
    };
    for name in with_prefix(&names[..size], prefix.as_bytes()) {
        fremovexattr(file, OsStr::from_bytes(name)).doing("describe", path)?;
    }
    for Attribute { name, value } in new {
        fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty())
            .doing("describe", path)?;
    }
    Ok(())
}

/// The names in a list of the kernel's that begin like this.
fn with_prefix<'n>(names: &'n [u8], prefix: &'n [u8]) -> impl Iterator<Item = &'n [u8]> {
    let all = names.split(|byte| *byte == 0);
    all.filter(move |name| name.starts_with(prefix))
}
