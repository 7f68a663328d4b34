//! Layers as one tree, packed: what an engine takes as an image.
//!
//! Upper layers hide what is below with the marks that overlayfs has for it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, FileType, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// Both names that the mark of a folder that hides all below has.
const OPAQUE: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];

/// Writes what the layers, lowest first, are together.
pub(crate) fn pack(layers: &[PathBuf], to: impl Write) -> io::Result<()> {
    let mut pack = Pack {
        archive: Builder::new(to),
        linked: HashMap::new(),
    };
    let highest_first: Vec<PathBuf> = layers.iter().rev().cloned().collect();
    pack.folder(&highest_first, Path::new(""))?;
    pack.archive.into_inner()?.flush()
}

struct Pack<W: Write> {
    archive: Builder<W>,
    /// Where a file with several names was written first.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Pack<W> {
    /// What these folders, highest first, show together at `inside`.
    fn folder(&mut self, folders: &[PathBuf], inside: &Path) -> io::Result<()> {
        for (name, found) in shown(folders)? {
            let path = inside.join(name);
            let highest = &found[0];
            let meta = fs::symlink_metadata(highest)?;
            if is_whiteout(&meta) {
                continue;
            }
            self.entry(highest, &meta, &path)?;
            if meta.is_dir() {
                self.folder(&visible(&found)?, &path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, meta: &Metadata, path: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_metadata(meta);
        let kind = meta.file_type();
        if kind.is_symlink() {
            return self
                .archive
                .append_link(&mut header, path, fs::read_link(from)?);
        }
        if meta.is_file() && meta.nlink() > 1 {
            let file = (meta.dev(), meta.ino());
            if let Some(first) = self.linked.get(&file) {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self.archive.append_link(&mut header, path, first);
            }
            self.linked.insert(file, path.to_owned());
        }
        if meta.is_file() {
            return self
                .archive
                .append_data(&mut header, path, fs::File::open(from)?);
        }
        header.set_size(0);
        header.set_entry_type(match special(kind) {
            // What is neither has no meaning in an image.
            None if !meta.is_dir() => return Ok(()),
            None => EntryType::Directory,
            Some(kind) => kind,
        });
        header.set_device_major(rustix::fs::major(meta.rdev()))?;
        header.set_device_minor(rustix::fs::minor(meta.rdev()))?;
        self.archive.append_data(&mut header, path, io::empty())
    }
}

fn special(kind: FileType) -> Option<EntryType> {
    if kind.is_fifo() {
        return Some(EntryType::Fifo);
    }
    if kind.is_char_device() {
        return Some(EntryType::Char);
    }
    kind.is_block_device().then_some(EntryType::Block)
}

/// Every name in these folders, with where it is, highest first.
fn shown(folders: &[PathBuf]) -> io::Result<BTreeMap<OsString, Vec<PathBuf>>> {
    let mut names: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            names
                .entry(entry.file_name())
                .or_default()
                .push(entry.path());
        }
    }
    Ok(names)
}

/// Those of a name's folders that are not hidden by one above.
fn visible(found: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut seen = Vec::new();
    for folder in found {
        if !fs::symlink_metadata(folder)?.is_dir() {
            break;
        }
        seen.push(folder.clone());
        if is_opaque(folder)? {
            break;
        }
    }
    Ok(seen)
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(folder: &Path) -> io::Result<bool> {
    for name in OPAQUE {
        if xattr::get(folder, name)?.is_some_and(|value| value == b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Paths with what they hold: a file's text, or the kind of entry.
    fn packed(layers: &[PathBuf]) -> BTreeMap<String, String> {
        let mut bytes = Vec::new();
        pack(layers, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let text = match entry.header().entry_type() {
                EntryType::Regular => io::read_to_string(&mut entry).unwrap(),
                kind => match entry.link_name().unwrap() {
                    Some(link) => format!("{kind:?} {}", link.display()),
                    None => format!("{kind:?}"),
                },
            };
            (path, text)
        });
        entries.collect()
    }

    #[test]
    fn upper_layers_add_replace_and_hide() {
        let root = tempfile::tempdir().unwrap();
        let layers = ["low", "high"].map(|name| root.path().join(name));
        let [low, high] = &layers;
        for (folder, files) in [
            (low, ["kept/a", "gone/b", "hidden/c", "replaced"]),
            (high, ["kept/new", "new/d", "hidden/e", "replaced"]),
        ] {
            for file in files {
                let path = folder.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, folder.file_name().unwrap().as_encoded_bytes()).unwrap();
            }
        }
        mknodat(
            CWD,
            high.join("gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
        .unwrap();
        xattr::set(high.join("hidden"), OPAQUE[0], b"y").unwrap();
        fs::hard_link(high.join("replaced"), high.join("second name")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", high.join("link")).unwrap();
        let want = [
            ("hidden", "Directory"),
            ("hidden/e", "high"),
            ("kept", "Directory"),
            ("kept/a", "low"),
            ("kept/new", "high"),
            ("link", "Symlink /etc/passwd"),
            ("new", "Directory"),
            ("new/d", "high"),
            ("replaced", "high"),
            ("second name", "Link replaced"),
        ];
        let want = want.map(|(path, text)| (path.to_owned(), text.to_owned()));
        assert_eq!(packed(&layers), want.into());
    }
}
