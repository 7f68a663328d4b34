//! Unpacking archives of strangers into a folder of ours.
//!
//! Invariant: nothing outside the folder is read or written, whatever the archive says, and every resource
//! it can use up is counted against [`Limits`] before it is used.

mod error;
mod metadata;
mod meter;
mod path;
mod tree;

use std::io::{self, Read};
use std::path::Path;

use skerry_sys::idmap::Ids;
use tar::{Entry, EntryType};

pub use error::UnpackError;
pub use meter::Limits;
pub(crate) use meter::{Budget, Tap, decompress};

use metadata::Metadata;
use meter::Meter;
use path::EntryPath;
use tree::Tree;

type Result<T, E = UnpackError> = std::result::Result<T, E>;

/// Whiteout files of image layers: `.wh.NAME` hides NAME of the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// Hides everything that the layers below have in the same folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What other storage drivers leave behind for themselves.
const PRIVATE_WHITEOUT: &[u8] = b".wh..wh.";

/// Unpacks the plain tar stream into the empty folder `target`; gives the SHA-256 of the stream.
///
/// Files get the archive's owners as these ids have them on disk.
pub(crate) fn unpack(tar: impl Read, target: &Path, ids: Ids, budget: &Budget) -> Result<String> {
    let meter = Meter::new(tar, budget);
    let mut tree = Tree::open(target, ids)?;
    let mut archive = tar::Archive::new(&meter);
    let mut entries = archive.entries()?;
    for number in 0.. {
        meter.expect_header();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|e| match UnpackError::from(e) {
            // This is how the archive reader says that a header makes no sense; readers below it have kinds of their own for their trouble.
            UnpackError::Damaged(e) if number == 0 && e.kind() == io::ErrorKind::Other => {
                UnpackError::NotAnArchive
            }
            other => other,
        })?;
        meter.expect_data();
        unpack_entry(&mut tree, &mut entry, budget)?;
        // What an entry has beyond what its kind needs must not count as a header.
        io::copy(&mut entry, &mut io::sink())?;
    }
    tree.finish()?;
    meter.finish()
}

fn unpack_entry<R: Read>(tree: &mut Tree, entry: &mut Entry<'_, R>, budget: &Budget) -> Result<()> {
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = EntryPath::new(&entry.path_bytes(), budget.limits())?;
    budget.entry(path.len())?;
    let metadata = Metadata::read(entry, &path)?;
    if let Some(name) = path.name().strip_prefix(WHITEOUT) {
        return unpack_whiteout(tree, &path, name);
    }
    if path.is_root() && kind != EntryType::Directory {
        return Err(UnpackError::EmptyPath);
    }
    match kind {
        EntryType::Directory => tree.folder(&path, &metadata),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            if kind == EntryType::GNUSparse {
                budget.read(entry.size())?;
            }
            tree.file(&path, &metadata, entry)
        }
        EntryType::Symlink => tree.symlink(&path, &metadata, &link_target(entry, &path)?),
        EntryType::Link => {
            let target = EntryPath::new(&link_target(entry, &path)?, budget.limits())?;
            tree.hardlink(&path, &target)
        }
        EntryType::Fifo => tree.fifo(&path, &metadata),
        EntryType::Char | EntryType::Block => unpack_device(tree, entry, &path),
        other => Err(UnpackError::Unsupported {
            path: path.to_string(),
            kind: other.as_byte(),
        }),
    }
}

fn unpack_whiteout(tree: &mut Tree, path: &EntryPath, hidden: &[u8]) -> Result<()> {
    if path.name() == OPAQUE {
        return tree.opaque(&path.parent());
    }
    if path.name().starts_with(PRIVATE_WHITEOUT) {
        return Ok(());
    }
    match hidden {
        b"" | b"." | b".." => Err(UnpackError::Whiteout(path.to_string())),
        name => tree.whiteout(&path.parent().join(name)),
    }
}

/// A sandbox has its own `/dev`, so nodes there are left out; anywhere else only a whiteout is one.
fn unpack_device<R: Read>(tree: &mut Tree, entry: &Entry<'_, R>, path: &EntryPath) -> Result<()> {
    let header = entry.header();
    let number = (header.device_major()?, header.device_minor()?);
    let whiteout = header.entry_type() == EntryType::Char && number == (Some(0), Some(0));
    if whiteout {
        tree.whiteout(path)
    } else if path.starts_with(b"dev/") {
        Ok(())
    } else {
        Err(UnpackError::Device(path.to_string()))
    }
}

fn link_target<R: Read>(entry: &Entry<'_, R>, path: &EntryPath) -> Result<Vec<u8>> {
    let target = entry.link_name_bytes().unwrap_or_default().into_owned();
    if target.is_empty() || target.contains(&0) || target.len() > path::MAX_PATH {
        return Err(UnpackError::LinkTarget(path.to_string()));
    }
    Ok(target)
}
