//! The files of a copy step: an uploaded archive, rewritten so that each of its files stands where the step wants it.
//!
//! Invariant: the archive is a tenant's. It is only read, its size is bounded, and where its names lead the agent decides below the target.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::StreamExt;
use skerry_proto::node::ByteStream;
use skerry_types::{Error, Result, limits};
use tar::{Archive, Builder, Entry, EntryType};
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks between the disk and the node.
const QUEUE: usize = 4;
/// Long names and attributes of one entry.
const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// What a step wants.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Paths in the archive; its top is empty.
    pub(super) sources: Vec<String>,
    /// An absolute path.
    pub(super) dest: String,
    /// There is a folder, or there shall be one.
    pub(super) is_folder: bool,
    /// Permission bits of files and folders.
    pub(super) mode: Option<u32>,
}

/// Where each source goes: its path in the archive, and the one below the target.
type Ways = Vec<(String, String)>;

/// The folder to unpack in, and the archive to unpack there.
pub(super) async fn placed(archive: File, wanted: Wanted) -> Result<(String, ByteStream)> {
    let planned = tokio::task::spawn_blocking(move || {
        let (folder, ways) = plan(&archive, &wanted)?;
        Ok((archive, folder, ways, wanted.mode))
    });
    let planned = planned
        .await
        .unwrap_or_else(|_| Err(Error::internal("reading the archive broke off")));
    let (archive, folder, ways, mode) = planned?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let writer = io::BufWriter::with_capacity(CHUNK_BYTES, Sender(sender.clone()));
        if let Err(error) = rewrite(&archive, &ways, mode, writer) {
            // With nobody left to read it, it does not matter either.
            let _gone = sender.blocking_send(Err(broken(&error)));
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    Ok((folder, stream.boxed()))
}

/// What the sources are decides where they go: the content of a folder, or a file under its own name or the one that is given.
fn plan(archive: &File, wanted: &Wanted) -> Result<(String, Ways)> {
    let kinds = kinds(archive, &wanted.sources).map_err(|error| broken(&error))?;
    let some_folder = kinds.contains(&Some(Kind::Folder));
    let dest = wanted.dest.trim_end_matches('/');
    let below = wanted.is_folder || some_folder || wanted.sources.len() > 1;
    let (folder, own_name) = match dest.rsplit_once('/') {
        Some((folder, name)) if !below => (folder, Some(name)),
        _ => (dest, None),
    };
    let mut ways = Vec::new();
    for (source, kind) in wanted.sources.iter().zip(kinds) {
        let last = source.rsplit('/').next().unwrap_or_default();
        let to = match kind {
            None => {
                return Err(Error::validation(format!(
                    "`{source}` is not among the files to copy"
                )));
            }
            Some(Kind::Folder) => "",
            Some(Kind::File) => own_name.unwrap_or(last),
        };
        ways.push((source.clone(), to.to_owned()));
    }
    let folder = if folder.is_empty() { "/" } else { folder };
    Ok((folder.to_owned(), ways))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

fn kinds(archive: &File, sources: &[String]) -> io::Result<Vec<Option<Kind>>> {
    // The top is there, whatever is in it.
    let mut kinds: Vec<_> = sources
        .iter()
        .map(|source| source.is_empty().then_some(Kind::Folder))
        .collect();
    each(archive, |entry| {
        let is_folder = entry.header().entry_type() == EntryType::Directory;
        let Some(path) = tidy(&entry.path_bytes()) else {
            return Ok(());
        };
        for (source, kind) in sources.iter().zip(&mut kinds) {
            match path.strip_prefix(&**source) {
                Some("") => *kind = Some(if is_folder { Kind::Folder } else { Kind::File }),
                Some(rest) if rest.starts_with('/') => *kind = Some(Kind::Folder),
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(kinds)
}

fn rewrite(archive: &File, ways: &Ways, mode: Option<u32>, out: impl Write) -> io::Result<()> {
    let mut out = Builder::new(out);
    each(archive, |entry| {
        let Some(path) = tidy(&entry.path_bytes()) else {
            return Ok(());
        };
        let link = entry.link_name_bytes().map(Cow::into_owned);
        let kind = entry.header().entry_type();
        for to in ways.iter().filter_map(|way| follow(way, &path)) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mtime(entry.header().mtime()?);
            header.set_mode(mode.unwrap_or(entry.header().mode()?));
            header.set_size(entry.header().entry_size()?);
            match (kind, &link) {
                (EntryType::Directory, _) if to.is_empty() => {}
                (EntryType::Symlink, Some(target)) => {
                    out.append_link(&mut header, &to, String::from_utf8_lossy(target).as_ref())?;
                }
                (EntryType::Link, Some(first)) => {
                    let first = tidy(first)
                        .and_then(|first| ways.iter().find_map(|way| follow(way, &first)));
                    let first = first
                        .ok_or_else(|| other("a hard link leads to a file that is not copied"))?;
                    out.append_link(&mut header, &to, first)?;
                }
                (EntryType::Regular | EntryType::Continuous | EntryType::Directory, _) => {
                    out.append_data(&mut header, &to, &mut *entry)?;
                    // A file goes one way; what was read of it is gone.
                    break;
                }
                _ => return Err(other("there is something that is no file, folder or link")),
            }
        }
        Ok(())
    })?;
    out.into_inner()?.flush()
}

/// Where a path goes, if it is this way.
fn follow((source, to): &(String, String), path: &str) -> Option<String> {
    let rest = path.strip_prefix(&**source)?;
    let rest = match rest.strip_prefix('/') {
        Some(rest) => rest,
        None if rest.is_empty() || source.is_empty() => rest,
        None => return None,
    };
    Some(match (to.is_empty(), rest.is_empty()) {
        (_, true) => to.clone(),
        (true, _) => rest.to_owned(),
        (false, _) => format!("{to}/{rest}"),
    })
}

/// A path without `.` and slashes at its ends; `None` for one that leads out or is not UTF-8.
fn tidy(path: &[u8]) -> Option<String> {
    let path = str::from_utf8(path).ok()?;
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// Visits all entries. What is read before one is kept in memory, and its length is a tenant's word: it is bounded.
fn each(
    archive: &File,
    mut visit: impl FnMut(&mut Entry<'_, Bounded<'_>>) -> io::Result<()>,
) -> io::Result<()> {
    let left = Cell::new(None);
    let mut archive = Archive::new(Bounded {
        content: open(archive)?,
        left: &left,
    });
    let mut entries = archive.entries()?;
    loop {
        left.set(Some(MAX_HEAD_BYTES));
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        left.set(None);
        let mut entry = entry?;
        if entry.header().entry_type().is_gnu_sparse() {
            return Err(other("there is a sparse file; pack it as a plain one"));
        }
        visit(&mut entry)?;
        io::copy(&mut entry, &mut io::sink())?;
    }
}

/// The bytes of an archive, of which only so many may be read while that is set.
struct Bounded<'a> {
    content: Box<dyn Read + 'a>,
    left: &'a Cell<Option<usize>>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(room)?;
        if let Some(left) = self.left.get() {
            let left = left
                .checked_sub(read)
                .ok_or_else(|| other("what stands before an entry is too long"))?;
            self.left.set(Some(left));
        }
        Ok(read)
    }
}

/// From its start, unpacked if it is compressed.
fn open(file: &File) -> io::Result<Box<dyn Read + '_>> {
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    reader.rewind()?;
    let mut magic = [0; 2];
    let read = reader.read(&mut magic)?;
    reader.rewind()?;
    let content: Box<dyn Read> = if magic[..read] == [0x1f, 0x8b] {
        Box::new(GzDecoder::new(reader))
    } else {
        Box::new(reader)
    };
    Ok(Box::new(content.take(limits::MAX_ARCHIVE_BYTES)))
}

fn other(text: &'static str) -> io::Error {
    io::Error::other(text)
}

fn broken(error: &io::Error) -> Error {
    Error::validation(format!("the files to copy cannot be read: {error}"))
}

struct Sender(mpsc::Sender<Result<Bytes>>);

impl Write for Sender {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(data)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lands where, of an archive with `a/x`, `a/deep/y`, a link, and `f`.
    fn landed(sources: &[&str], dest: &str, is_folder: bool) -> Result<Vec<String>> {
        let mut builder = Builder::new(tempfile::tempfile().unwrap());
        let mut file = |path: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o640);
            builder.append_data(&mut header, path, &b"x"[..]).unwrap();
        };
        for path in ["./a/x", "a/deep/y", "f", "ab"] {
            file(path);
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        builder
            .append_link(&mut header, "a/link", "deep/y")
            .unwrap();
        let archive = builder.into_inner().unwrap();
        let wanted = Wanted {
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            dest: dest.to_owned(),
            is_folder,
            mode: None,
        };
        let (folder, ways) = plan(&archive, &wanted)?;
        let mut out = Vec::new();
        rewrite(&archive, &ways, wanted.mode, &mut out).unwrap();
        let mut read = Archive::new(&out[..]);
        let entries = read.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            format!("{}/{path}", folder.trim_end_matches('/'))
        });
        Ok(entries.collect())
    }

    #[test]
    fn files_and_folders_land_as_in_a_dockerfile() {
        for (sources, dest, is_folder, there) in [
            (&["f"][..], "/srv", false, &["/srv"][..]),
            (&["f"], "/srv", true, &["/srv/f"]),
            (&["f"], "/srv/g", false, &["/srv/g"]),
            (&["a/deep/y"], "/", true, &["/y"]),
            (
                &["a"],
                "/srv",
                false,
                &["/srv/x", "/srv/deep/y", "/srv/link"],
            ),
            (
                &["f", "a"],
                "/srv",
                false,
                &["/srv/x", "/srv/deep/y", "/srv/f", "/srv/link"],
            ),
            (&["a/deep", "ab"], "/", true, &["/y", "/ab"]),
            (
                &[""],
                "/b",
                false,
                &["/b/a/x", "/b/a/deep/y", "/b/f", "/b/ab", "/b/a/link"],
            ),
        ] {
            assert_eq!(
                landed(sources, dest, is_folder).unwrap(),
                there,
                "{sources:?} {dest}"
            );
        }
        let missing = landed(&["f", "gone"], "/", true).unwrap_err();
        assert!(missing.message.contains("gone"), "{missing}");
    }

    #[test]
    fn a_name_that_goes_on_and_on_is_refused() {
        let mut name = tar::Header::new_gnu();
        name.set_entry_type(EntryType::GNULongName);
        name.set_size(1 << 33);
        name.set_cksum();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(name.as_bytes()).unwrap();
        file.set_len(1 << 33).unwrap();
        let refused = kinds(&file, &[]).unwrap_err();
        assert!(refused.to_string().contains("too long"), "{refused}");
    }

    #[test]
    fn what_leads_out_is_left_out_and_garbage_is_refused() {
        assert_eq!(tidy(b"../x"), None);
        assert_eq!(tidy(b"./a//b/"), Some("a/b".to_owned()));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 2000]).unwrap();
        let wanted = Wanted {
            sources: vec!["a".to_owned()],
            dest: "/".to_owned(),
            is_folder: true,
            mode: None,
        };
        assert!(plan(&file, &wanted).is_err());
    }
}
