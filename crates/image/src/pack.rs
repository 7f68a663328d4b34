//! A folder as an archive stream, so that a plain root file system becomes a layer like any other.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, getxattr, listxattr};
use tar::{Builder, EntryType, Header, HeaderMode};

/// The kernel's own limits on lists and values of extended attributes.
const XATTR_BYTES: usize = 64 * 1024;

/// Writes everything in the folder, in order of names; links are not followed, sockets and devices left out.
pub(crate) fn pack(folder: &Path, out: impl Write) -> io::Result<()> {
    let mut packer = Packer {
        tar: Builder::new(out),
        root: folder,
        linked: HashMap::new(),
    };
    packer.folder(Path::new("."))?;
    packer.tar.into_inner()?.flush()
}

struct Packer<'a, W: Write> {
    tar: Builder<W>,
    root: &'a Path,
    /// Where files with several names came first, by device and number.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    fn folder(&mut self, path: &Path) -> io::Result<()> {
        let place = self.root.join(path);
        self.entry(path, &fs::symlink_metadata(&place)?)?;
        let mut names = fs::read_dir(&place)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let path = path.join(name);
            let meta = fs::symlink_metadata(self.root.join(&path))?;
            if meta.is_dir() {
                self.folder(&path)?;
            } else {
                self.entry(&path, &meta)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, meta: &Metadata) -> io::Result<()> {
        let kind = meta.file_type();
        if kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return Ok(());
        }
        let place = self.root.join(path);
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(meta, HeaderMode::Complete);
        header.set_size(0);
        if meta.is_symlink() {
            return self
                .tar
                .append_link(&mut header, path, fs::read_link(place)?);
        }
        if meta.is_file() && meta.nlink() > 1 {
            let first = self
                .linked
                .entry((meta.dev(), meta.ino()))
                .or_insert_with(|| path.to_owned());
            if first != path {
                header.set_entry_type(EntryType::Link);
                return self.tar.append_link(&mut header, path, first);
            }
        }
        let xattrs = read_xattrs(&place)?;
        self.tar
            .append_pax_extensions(xattrs.iter().map(|(k, v)| (k.as_str(), v.as_slice())))?;
        if meta.is_file() {
            header.set_size(meta.len());
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&place, flags, Mode::empty())?);
            return self.tar.append_data(&mut header, path, file);
        }
        self.tar.append_data(&mut header, path, io::empty())
    }
}

fn read_xattrs(place: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; XATTR_BYTES];
    let length = match listxattr(place, &mut names) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; XATTR_BYTES];
        let length = getxattr(place, std::ffi::OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        xattrs.push((
            format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)),
            value,
        ));
    }
    Ok(xattrs)
}
