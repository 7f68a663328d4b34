//! Owner, mode, times and extended attributes as an archive tells them.

use std::io::Read;

use rustix::fs::{Mode, Timespec, Timestamps};
use tar::Entry;

use super::path::EntryPath;
use super::{Result, UnpackError};

/// What an archive says of an entry beside its content.
pub(super) struct Metadata {
    pub(super) mode: Mode,
    /// User and group.
    pub(super) owner: (u32, u32),
    pub(super) times: Timestamps,
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

impl Metadata {
    pub(super) fn read<R: Read>(entry: &mut Entry<'_, R>, path: &EntryPath) -> Result<Self> {
        let xattrs = read_xattrs(entry, path)?;
        let header = entry.header();
        let id = |raw: u64| match u32::try_from(raw) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(UnpackError::Owner(path.to_string())),
        };
        let modified = Timespec {
            tv_sec: header
                .mtime()
                .ok()
                .and_then(|t| t.try_into().ok())
                .unwrap_or(0),
            tv_nsec: 0,
        };
        Ok(Self {
            mode: Mode::from_raw_mode(header.mode()? & 0o7777),
            owner: (id(header.uid()?)?, id(header.gid()?)?),
            times: Timestamps {
                last_access: modified,
                last_modification: modified,
            },
            xattrs,
        })
    }
}

/// File capabilities and what users set; all else could mean something to our own overlays or to the host.
fn read_xattrs<R: Read>(
    entry: &mut Entry<'_, R>,
    path: &EntryPath,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(xattrs);
    };
    for extension in extensions {
        let extension = extension?;
        let key = extension.key().unwrap_or_default();
        if key.starts_with("GNU.sparse.") {
            return Err(UnpackError::Sparse(path.to_string()));
        }
        let Some(name) = key.strip_prefix("SCHILY.xattr.") else {
            continue;
        };
        let users = name.starts_with("user.") && !name.starts_with("user.overlay.");
        if (users || name == "security.capability") && !name.contains('\0') {
            xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(xattrs)
}
