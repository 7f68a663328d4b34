//! A directory, or a file, as a tar stream.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use skerry_proto::frame::CHUNK_BYTES;
use skerry_proto::glob::Globs;
use tar::{Builder, EntryType, Header};

use crate::files::error::{Doing, FileError};
use crate::files::flow::Sink;
use crate::files::folders::{Folders, PATH_COST};
use crate::files::transfer::open_regular;

/// Bytes of the names of hard links that are kept as links; more of them become copies.
const MAX_LINK_BYTES: usize = 4 * 1024 * 1024;

/// Writes the archive; names in it are relative to `root`, or just the name of a file.
pub(super) fn pack(root: &Path, exclude: &Globs, sink: Sink) -> Result<(), FileError> {
    let found = fs::metadata(root).doing("pack", root)?;
    let mut packer = Packer {
        archive: Builder::new(BufWriter::with_capacity(CHUNK_BYTES, sink)),
        linked: HashMap::new(),
        linked_bytes: 0,
    };
    if found.is_dir() {
        packer.folder(root, exclude)?;
    } else {
        let name = root.file_name().unwrap_or(root.as_os_str());
        packer.add(root, Path::new(name), &found)?;
    }
    let finish = packer
        .archive
        .into_inner()
        .and_then(|mut sink| sink.flush());
    finish.map_err(|_| FileError::GivenUp)
}

struct Packer {
    archive: Builder<BufWriter<Sink>>,
    /// The first name of each file that has several.
    linked: HashMap<(u64, u64), PathBuf>,
    linked_bytes: usize,
}

impl Packer {
    fn folder(&mut self, root: &Path, exclude: &Globs) -> Result<(), FileError> {
        let mut folders = Folders::of(PathBuf::new(), ());
        while let Some((folder, ())) = folders.pop() {
            let path = root.join(&folder);
            for entry in fs::read_dir(&path).doing("pack", &path)? {
                let entry = entry.doing("pack", &path)?;
                let name = entry.file_name();
                let (path, name) = (entry.path(), folder.join(name));
                if exclude.matches(&name.to_string_lossy()) {
                    continue;
                }
                let found = match fs::symlink_metadata(&path) {
                    // Gone since: no part of the archive.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    found => found.doing("pack", &path)?,
                };
                self.add(&path, &name, &found)?;
                if found.is_dir() {
                    folders.push(name, ())?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, name: &Path, found: &Metadata) -> Result<(), FileError> {
        let mut header = Header::new_gnu();
        header.set_mode(found.mode() & 0o7777);
        header.set_uid(found.uid().into());
        header.set_gid(found.gid().into());
        header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
        header.set_size(0);
        let kind = found.file_type();
        let added = if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.archive.append_data(&mut header, name, io::empty())
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(path).doing("pack", path)?;
            self.archive.append_link(&mut header, name, target)
        } else if kind.is_file() {
            return self.file(path, name, found, header);
        } else {
            // Sockets, pipes and devices have no content to keep.
            return Ok(());
        };
        added.doing("pack", path)
    }

    fn file(
        &mut self,
        path: &Path,
        name: &Path,
        found: &Metadata,
        mut header: Header,
    ) -> Result<(), FileError> {
        if found.nlink() > 1 {
            let inode = (found.dev(), found.ino());
            if let Some(first) = self.linked.get(&inode) {
                header.set_entry_type(EntryType::Link);
                return self
                    .archive
                    .append_link(&mut header, name, first)
                    .doing("pack", path);
            }
            if self.linked_bytes < MAX_LINK_BYTES {
                self.linked_bytes += PATH_COST + name.as_os_str().len();
                self.linked.insert(inode, name.to_owned());
            }
        }
        let file = open_regular(path, OFlags::NOFOLLOW)?;
        let size = file.metadata().doing("pack", path)?.len();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        // A file that shrinks meanwhile is filled up: the header has promised a size.
        let content = file.chain(io::repeat(0)).take(size);
        self.archive
            .append_data(&mut header, name, content)
            .doing("pack", path)
    }
}
