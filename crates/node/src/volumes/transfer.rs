//! Contents of files in volumes, in and out.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use futures::{StreamExt, TryStreamExt, stream};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;
use skerry_proto::frame::CHUNK_BYTES;
use skerry_proto::node::{ByteStream, FileKind, VolumeAttributes, VolumeEntry};
use skerry_types::{Error, Result};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::content::{Content, own_path, plain, refuse};

const FILE_MODE: u32 = 0o644;

/// A file's entry and what is in it now.
pub(crate) fn read(content: &Content, path: &str) -> Result<(VolumeEntry, ByteStream)> {
    let path = plain(path)?;
    let found = content.find(&path, OFlags::empty())?;
    let entry = content.describe(&found, &path)?;
    must_be_a_file(&entry, &path)?;
    // Only now is it opened, since to open a pipe or a device is to do something.
    let file = std::fs::File::open(own_path(&found)).map_err(refuse(&path))?;
    let chunks = stream::unfold(Some(File::from_std(file)), move |file| {
        let path = path.clone();
        async move {
            let mut file = file?;
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            match file.read_buf(&mut chunk).await {
                Ok(0) => None,
                Ok(_) => Some((Ok(chunk.freeze()), Some(file))),
                Err(error) => Some((Err(refuse(&path)(error)), None)),
            }
        }
    });
    Ok((entry, chunks.boxed()))
}

/// Begins a file, which is not there before all of it is.
pub(crate) fn write(
    content: &Content,
    path: &str,
    parents: bool,
    attributes: VolumeAttributes,
) -> Result<Draft> {
    let path = plain(path)?;
    let (folder, name) = content.parent(&path, parents)?;
    let name = name.to_owned();
    if let Ok(there) = content.find(&path, OFlags::NOFOLLOW) {
        let entry = content.describe(&there, &path)?;
        if entry.kind != FileKind::Symlink {
            must_be_a_file(&entry, &path)?;
        }
    }
    Draft::begin(content, folder, name, &path, attributes)
}

fn must_be_a_file(entry: &VolumeEntry, path: &Path) -> Result<()> {
    match entry.kind {
        FileKind::File => Ok(()),
        FileKind::Directory => Err(refuse(path)(io::Error::from(io::ErrorKind::IsADirectory))),
        FileKind::Symlink | FileKind::Other => {
            let text = format!("{} is not a regular file", path.display());
            Err(Error::validation(text))
        }
    }
}

/// A file that has no name until it is put in its place: whatever ends this before, nothing of it is left.
#[derive(Debug)]
pub(crate) struct Draft {
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
    file: File,
}

impl Draft {
    fn begin(
        content: &Content,
        folder: OwnedFd,
        name: OsString,
        path: &Path,
        attributes: VolumeAttributes,
    ) -> Result<Self> {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = openat(&folder, ".", flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(refuse(path))?;
        let dressed = content.dress(&file, &folder, FILE_MODE, attributes);
        dressed.map_err(refuse(path))?;
        Ok(Self {
            folder,
            name,
            path: path.to_owned(),
            file: File::from_std(file.into()),
        })
    }

    /// Fills it.
    pub(crate) async fn fill(&mut self, mut bytes: ByteStream) -> Result<()> {
        while let Some(chunk) = bytes.try_next().await? {
            self.file
                .write_all(&chunk)
                .await
                .map_err(refuse(&self.path))?;
        }
        self.file.flush().await.map_err(refuse(&self.path))
    }

    /// Puts it in its place.
    pub(crate) fn put(self, content: &Content) -> Result<VolumeEntry> {
        let placed = match self.link(&self.name) {
            Err(Errno::EXIST) => self.replace(),
            placed => placed,
        };
        placed.map_err(refuse(&self.path))?;
        let found = content.find(&self.path, OFlags::NOFOLLOW)?;
        content.describe(&found, &self.path)
    }

    fn link(&self, name: &OsStr) -> rustix::io::Result<()> {
        let own = own_path(&self.file);
        linkat(CWD, own, &self.folder, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// What is there goes in one step, for which the new one needs a name for a moment.
    fn replace(&self) -> rustix::io::Result<()> {
        let part = format!(".skerry-{}.part", Uuid::now_v7().simple());
        self.link(part.as_ref())?;
        let placed = renameat(&self.folder, &part, &self.folder, &self.name);
        if placed.is_err() {
            // Whoever removed it was faster.
            let _: rustix::io::Result<()> = unlinkat(&self.folder, &part, AtFlags::empty());
        }
        placed
    }
}
