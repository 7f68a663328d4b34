//! Files on this machine as bodies of requests, and answers as files.
//!
//! Invariant: what comes from a sandbox is hostile. Nothing of an archive lands outside its target, and no link of it is followed.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use skerry_api::{FileEntry, FileKind};
use skerry_client::{Body, Download};
use skerry_proto::glob::Globs;
use tar::{Archive, Builder, Entry, EntryType};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use super::progress::Progress;

const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks between the disk and the network.
const QUEUE: usize = 8;

/// Where bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Whatever comes on stdin.
    Stdin,
    /// A file.
    File(fs::File),
    /// A folder, as a tar archive.
    Folder(Folder),
}

/// A folder to pack.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// What stays here.
    pub(crate) exclude: Globs,
    /// How many entries could not go along, since they are neither files, folders nor links; known once it is packed.
    pub(crate) left_out: Arc<AtomicUsize>,
}

impl Source {
    /// `-` is stdin.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdin);
        }
        let file = fs::File::open(path)?;
        if file.metadata()?.is_dir() {
            return Ok(Self::Folder(Folder {
                root: path.to_owned(),
                exclude: Globs::default(),
                left_out: Arc::default(),
            }));
        }
        Ok(Self::File(file))
    }
}

/// The body of a request that takes its bytes from there as they are needed.
pub(crate) fn body(source: Source, progress: Progress) -> Body {
    match source {
        Source::Stdin => counted(chunks(tokio::io::stdin()), progress),
        Source::File(file) => counted(chunks(tokio::fs::File::from_std(file)), progress),
        Source::Folder(folder) => counted(packed(folder), progress),
    }
}

fn chunks(reader: impl tokio::io::AsyncRead) -> impl Stream<Item = io::Result<Bytes>> {
    ReaderStream::with_capacity(reader, CHUNK_BYTES)
}

fn counted(
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    progress: Progress,
) -> Body {
    Body::wrap_stream(chunks.inspect(move |chunk| {
        progress.add(chunk.as_ref().map_or(0, Bytes::len));
    }))
}

/// A folder as a tar archive, with names relative to it.
fn packed(folder: Folder) -> impl Stream<Item = io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let writer = io::BufWriter::with_capacity(CHUNK_BYTES, Sender(sender.clone()));
        if let Err(error) = pack(&folder, writer) {
            // With nobody left to read it, it does not matter either.
            let _gone = sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

fn pack(folder: &Folder, writer: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(writer);
    builder.follow_symlinks(false);
    let mut below = vec![PathBuf::new()];
    while let Some(parent) = below.pop() {
        for entry in fs::read_dir(folder.root.join(&parent))? {
            let entry = entry?;
            let name = parent.join(entry.file_name());
            if folder.exclude.matches(&name.to_string_lossy()) {
                continue;
            }
            let kind = entry.file_type()?;
            if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                folder.left_out.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            builder.append_path_with_name(entry.path(), &name)?;
            if kind.is_dir() {
                below.push(name);
            }
        }
    }
    builder.into_inner()?.flush()
}

struct Sender(mpsc::Sender<io::Result<Bytes>>);

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

/// The mode for a copy of what was found. A link's own says nothing of what it leads to.
pub(crate) fn mode_of(found: &FileEntry) -> u32 {
    match found.kind {
        FileKind::Symlink => 0o644,
        _ => found.mode & 0o777,
    }
}

/// Writes a download to a file, which appears whole or not at all; to a device or a pipe as it comes.
pub(crate) async fn save(
    download: Download,
    target: &Path,
    mode: u32,
    progress: &Progress,
) -> anyhow::Result<()> {
    let is_stream = fs::metadata(target).is_ok_and(|there| !there.is_file());
    if is_stream {
        let mut file = fs::File::options().write(true).open(target)?;
        return write_all(download, &mut file, progress).await;
    }
    // A link leads to the file that is meant.
    let target = &target.canonicalize().unwrap_or_else(|_| target.to_owned());
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    write_all(download, &mut file, progress).await?;
    let permissions = Permissions::from_mode(mode);
    file.as_file().set_permissions(permissions)?;
    file.persist(target)?;
    Ok(())
}

async fn write_all(
    mut download: Download,
    file: &mut impl Write,
    progress: &Progress,
) -> anyhow::Result<()> {
    while let Some(chunk) = download.chunk().await? {
        progress.add(chunk.len());
        file.write_all(&chunk)?;
    }
    Ok(())
}

/// Unpacks a downloaded tar archive below `target`. Gives the number of entries that are neither files, folders nor links, which are left out.
pub(crate) async fn unpack(
    mut download: Download,
    target: PathBuf,
    progress: &Progress,
) -> anyhow::Result<usize> {
    let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
    let unpacking = tokio::task::spawn_blocking(move || {
        let reader = Receiver {
            receiver,
            chunk: Bytes::new(),
        };
        unpack_from(reader, &target)
    });
    while let Some(chunk) = download.chunk().await? {
        progress.add(chunk.len());
        // It has stopped reading: it says why below.
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    Ok(unpacking.await??)
}

struct Receiver {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Receiver {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let taken = self.chunk.len().min(out.len());
        self.chunk.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}

fn unpack_from(mut reader: impl Read, target: &Path) -> io::Result<usize> {
    fs::create_dir_all(target)?;
    let target = target.canonicalize()?;
    let (mut folders, mut links) = (Vec::new(), Vec::new());
    let mut left_out = 0;
    let mut archive = Archive::new(&mut reader);
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => put(&mut entry, &target)?,
            EntryType::Link => {
                clear(&target, &entry.path()?)?;
                put(&mut entry, &target)?;
            }
            EntryType::Directory => {
                put(&mut entry, &target)?;
                folders.extend(open_up(&target, &entry.path()?)?);
            }
            // Last of all, so that nothing is written through them.
            EntryType::Symlink => {
                let to = entry.link_name()?.unwrap_or_default().into_owned();
                links.push((entry.path()?.into_owned(), to));
            }
            _ => left_out += 1,
        }
    }
    for (path, to) in links {
        link(&target, &path, &to)?;
    }
    // Now that all is in them.
    for (folder, permissions) in folders.into_iter().rev() {
        fs::set_permissions(folder, permissions)?;
    }
    // What follows the archive's end is padding.
    io::copy(&mut reader, &mut io::sink())?;
    Ok(left_out)
}

fn put(entry: &mut Entry<'_, impl Read>, target: &Path) -> io::Result<()> {
    if entry.unpack_in(target)? {
        return Ok(());
    }
    Err(outside(&entry.path()?))
}

/// Lets its owner, who is us, fill a folder; what it is to be in the end, if that is less.
fn open_up(target: &Path, path: &Path) -> io::Result<Option<(PathBuf, Permissions)>> {
    let folder = target.join(path).canonicalize()?;
    if !folder.starts_with(target) {
        return Err(outside(path));
    }
    let permissions = fs::metadata(&folder)?.permissions();
    let mode = permissions.mode();
    if mode & 0o700 == 0o700 {
        return Ok(None);
    }
    fs::set_permissions(&folder, Permissions::from_mode(mode | 0o700))?;
    Ok(Some((folder, permissions)))
}

fn link(target: &Path, path: &Path, to: &Path) -> io::Result<()> {
    clear(target, path)?;
    symlink(to, target.join(path))
}

/// Removes what is in the place of a link.
fn clear(target: &Path, path: &Path) -> io::Result<()> {
    let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    let place = target.join(path);
    let folder = place.parent().unwrap_or(target).canonicalize()?;
    if !path.components().all(is_plain) || !folder.starts_with(target) {
        return Err(outside(path));
    }
    match fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn outside(path: &Path) -> io::Error {
    io::Error::other(format!(
        "the archive has `{}`, which leads out of its folder",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        fill(&mut builder);
        builder.into_inner().unwrap()
    }

    fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, rest: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory {
            0o555
        } else {
            0o4755
        });
        // The safe setter would refuse the very names that are to be tried.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_old_mut().linkname[..rest.len()].copy_from_slice(rest.as_bytes());
            header.set_size(0);
        } else {
            header.set_size(rest.len() as u64);
        }
        header.set_cksum();
        let data = if kind == EntryType::Regular {
            rest.as_bytes()
        } else {
            b""
        };
        builder.append(&header, data).unwrap();
    }

    #[test]
    fn trees_come_out_as_they_went_in() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/file"), "x").unwrap();
        symlink("b/file", from.path().join("a/link")).unwrap();
        fs::create_dir_all(from.path().join("b/target")).unwrap();
        fs::write(from.path().join("b/target/built"), "x").unwrap();
        let _bound = UnixListener::bind(from.path().join("socket")).unwrap();
        let Source::Folder(mut folder) = Source::open(from.path()).unwrap() else {
            panic!("a folder");
        };
        folder.exclude = Globs::new(&["target".to_owned()]);
        let mut packed = Vec::new();
        pack(&folder, &mut packed).unwrap();
        assert_eq!(folder.left_out.load(Ordering::Relaxed), 1);
        let to = tempfile::tempdir().unwrap();
        for _again in 0..2 {
            assert_eq!(unpack_from(&packed[..], to.path()).unwrap(), 0);
            assert_eq!(fs::read_to_string(to.path().join("a/link")).unwrap(), "x");
            assert!(to.path().join("b").exists() && !to.path().join("b/target").exists());
        }
    }

    #[test]
    fn a_folder_that_may_not_be_written_comes_with_what_is_in_it() {
        let made = tempfile::tempdir().unwrap();
        let target = made.path();
        let bytes = archive(|b| {
            add(b, EntryType::Directory, "closed/", "");
            add(b, EntryType::Regular, "closed/file", "x");
            add(b, EntryType::Link, "closed/hard", "closed/file");
            add(b, EntryType::Symlink, "closed/soft", "file");
        });
        for _again in 0..2 {
            let closed = target.join("closed");
            assert_eq!(unpack_from(&bytes[..], target).unwrap(), 0);
            let mode = fs::metadata(&closed).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o555);
            assert_eq!(fs::read_to_string(closed.join("soft")).unwrap(), "x");
        }
    }

    #[test]
    fn nothing_lands_outside() {
        let home = tempfile::tempdir().unwrap();
        let (target, victim) = (home.path().join("in"), home.path().join("out"));
        let out = victim.to_str().unwrap();
        let tries = [
            archive(|b| add(b, EntryType::Regular, "../out/f", "x")),
            archive(|b| add(b, EntryType::Symlink, "../out/f", "x")),
            archive(|b| {
                add(b, EntryType::Symlink, "l", out);
                add(b, EntryType::Regular, "l/f", "x");
            }),
            archive(|b| {
                add(b, EntryType::Symlink, "l", out);
                add(b, EntryType::Symlink, "l/f", "x");
            }),
            archive(|b| {
                add(b, EntryType::Regular, "/out/f", "x");
                add(b, EntryType::Link, "hard", &format!("{out}/secret"));
            }),
        ];
        fs::create_dir(&victim).unwrap();
        let folder = archive(|b| add(b, EntryType::Directory, out, ""));
        unpack_from(&folder[..], &target).unwrap_err();
        for bytes in tries {
            fs::create_dir_all(&target).unwrap();
            fs::create_dir_all(&victim).unwrap();
            fs::write(victim.join("secret"), "s").unwrap();
            let _refused_or_harmless = unpack_from(&bytes[..], &target);
            assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
            assert!(!target.join("hard").exists());
            fs::remove_dir_all(&target).unwrap();
        }
    }

    #[test]
    fn devices_are_left_out_and_setuid_is_taken_off() {
        let target = tempfile::tempdir().unwrap();
        let bytes = archive(|b| {
            add(b, EntryType::Fifo, "pipe", "");
            add(b, EntryType::Char, "null", "");
            add(b, EntryType::Regular, "tool", "x");
        });
        assert_eq!(unpack_from(&bytes[..], target.path()).unwrap(), 2);
        let mode = fs::metadata(target.path().join("tool"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o755);
    }
}
