//! Changes below a directory, as the kernel tells of them.

use std::collections::HashMap;
use std::fs::{self, ReadDir};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use skerry_proto::agent::Watched;
use skerry_proto::agent::from_agent::Body;

use crate::exec::streams::watch;
use crate::files::error::{Doing, FileError};
use crate::outbox::Outbox;

/// Directories under one watch; changes in more are lost, and said to be.
const MAX_FOLDERS: usize = 8192;
/// Bytes of their paths.
const MAX_PATH_BYTES: usize = 2 * 1024 * 1024;

const CREATED: u32 = 1;
const WRITTEN: u32 = 2;
const REMOVED: u32 = 3;
const RENAMED_AWAY: u32 = 4;
const RENAMED_HERE: u32 = 5;
const ATTRIBUTES: u32 = 6;
const LOST: u32 = 7;

/// What happened, and where.
type Change = (u32, PathBuf);

/// A watch on one directory, and on those below it if wanted.
pub(super) struct Watch {
    id: u64,
    kernel: OwnedFd,
    root: PathBuf,
    recursive: bool,
    folders: HashMap<i32, PathBuf>,
    path_bytes: usize,
}

impl Watch {
    /// Starts to watch; from now on nothing is missed without being told.
    pub(super) fn start(id: u64, root: &Path, recursive: bool) -> Result<Self, FileError> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let kernel = kernel.doing("watch", root)?;
        let mut this = Self {
            id,
            kernel,
            root: root.to_owned(),
            recursive,
            folders: HashMap::new(),
            path_bytes: 0,
        };
        this.add(root).doing("watch", root)?;
        if recursive {
            let mut walk = Walk::below(root);
            while walk.next(&mut this).is_some() {}
        }
        Ok(this)
    }

    /// Tells of changes, for as long as somebody wants to know. A slow link makes the kernel lose some, and say so.
    pub(super) async fn tell(mut self, outbox: &Outbox) -> io::Result<()> {
        let kernel = watch(self.kernel.try_clone()?)?;
        loop {
            let mut ready = kernel.readable().await?;
            let Ok(events) = ready.try_io(|kernel| Ok(read_events(kernel.get_ref())?)) else {
                continue;
            };
            drop(ready);
            for event in events? {
                let Some((kind, path)) = self.understand(&event) else {
                    continue;
                };
                let walk = (self.recursive && event.flags.contains(ReadFlags::ISDIR))
                    .then(|| self.follow(kind, &path))
                    .flatten();
                self.send(outbox, (kind, path)).await;
                if let Some(mut walk) = walk {
                    while let Some(change) = walk.next(&mut self) {
                        self.send(outbox, change).await;
                    }
                }
            }
        }
    }

    /// Sends a change as soon as there is room, and lets others go on in between.
    async fn send(&self, outbox: &Outbox, (kind, path): Change) {
        outbox.has_room().await;
        outbox.send(Body::Watched(Watched {
            id: self.id,
            kind,
            path: Bytes::copy_from_slice(path.as_os_str().as_bytes()),
        }));
        tokio::task::consume_budget().await;
    }

    fn add(&mut self, folder: &Path) -> rustix::io::Result<()> {
        let what = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        if self.folders.len() >= MAX_FOLDERS || self.path_bytes >= MAX_PATH_BYTES {
            return Err(Errno::NOSPC);
        }
        let number = inotify::add_watch(&self.kernel, folder, what)?;
        self.path_bytes += folder.as_os_str().len();
        if let Some(before) = self.folders.insert(number, folder.to_owned()) {
            self.path_bytes -= before.as_os_str().len();
        }
        Ok(())
    }

    fn forget(&mut self, number: i32) {
        if let Some(folder) = self.folders.remove(&number) {
            self.path_bytes -= folder.as_os_str().len();
        }
    }

    fn understand(&mut self, event: &Event) -> Option<Change> {
        let flags = event.flags;
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some((LOST, self.root.clone()));
        }
        let folder = self.folders.get(&event.folder)?.clone();
        if flags.contains(ReadFlags::IGNORED) {
            self.forget(event.folder);
            return None;
        }
        if flags.contains(ReadFlags::DELETE_SELF) {
            // Of all others their parent tells.
            return (folder == self.root).then_some((REMOVED, folder));
        }
        let path = match &event.name {
            Some(name) => folder.join(std::ffi::OsStr::from_bytes(name)),
            None if folder == self.root => folder,
            // The parent's watch tells the same.
            None => return None,
        };
        Some((kind(flags)?, path))
    }

    /// Keeps the watches where the directories are. What a new one holds already is for the caller to tell.
    fn follow(&mut self, kind: u32, path: &Path) -> Option<Walk> {
        match kind {
            CREATED | RENAMED_HERE => match self.add(path) {
                Ok(()) => Some(Walk::below(path)),
                Err(Errno::NOENT | Errno::NOTDIR) => None,
                Err(_) => Some(Walk::lost(path)),
            },
            RENAMED_AWAY => {
                let inside = |folder: &&PathBuf| folder.starts_with(path);
                let all = self.folders.iter().filter(|(_, folder)| inside(folder));
                for number in all.map(|(number, _)| *number).collect::<Vec<_>>() {
                    self.forget(number);
                    // It may have ended by itself.
                    let _: rustix::io::Result<()> = inotify::remove_watch(&self.kernel, number);
                }
                None
            }
            _ => None,
        }
    }
}

/// A tree that came at once: each directory is watched before it is read, and what it holds is told one by one, however much it is.
#[derive(Default)]
struct Walk {
    /// All of them are watched, which bounds them.
    folders: Vec<PathBuf>,
    entries: Option<ReadDir>,
    lost: Option<PathBuf>,
}

impl Walk {
    fn below(folder: &Path) -> Self {
        Self {
            folders: vec![folder.to_owned()],
            ..Self::default()
        }
    }

    fn lost(folder: &Path) -> Self {
        Self {
            lost: Some(folder.to_owned()),
            ..Self::default()
        }
    }

    fn next(&mut self, watch: &mut Watch) -> Option<Change> {
        if let Some(lost) = self.lost.take() {
            return Some((LOST, lost));
        }
        loop {
            let Some(entries) = &mut self.entries else {
                // Gone since, or closed to us: there is nothing to tell.
                self.entries = fs::read_dir(self.folders.pop()?).ok();
                continue;
            };
            let Some(entry) = entries.next() else {
                self.entries = None;
                continue;
            };
            let Ok(entry) = entry else {
                continue;
            };
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                match watch.add(&path) {
                    Ok(()) => self.folders.push(path.clone()),
                    Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(_) => self.lost = Some(path.clone()),
                }
            }
            return Some((CREATED, path));
        }
    }
}

struct Event {
    folder: i32,
    flags: ReadFlags,
    name: Option<Vec<u8>>,
}

fn read_events(kernel: &OwnedFd) -> rustix::io::Result<Vec<Event>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(kernel, &mut buffer);
    let mut events = Vec::new();
    loop {
        let event = reader.next()?;
        events.push(Event {
            folder: event.wd(),
            flags: event.events(),
            name: event.file_name().map(|name| name.to_bytes().to_vec()),
        });
        if reader.is_buffer_empty() {
            return Ok(events);
        }
    }
}

fn kind(flags: ReadFlags) -> Option<u32> {
    let kinds = [
        (ReadFlags::CREATE, CREATED),
        (ReadFlags::MODIFY, WRITTEN),
        (ReadFlags::DELETE, REMOVED),
        (ReadFlags::MOVED_FROM, RENAMED_AWAY),
        (ReadFlags::MOVED_TO, RENAMED_HERE),
        (ReadFlags::ATTRIB, ATTRIBUTES),
    ];
    kinds
        .into_iter()
        .find(|(flag, _)| flags.contains(*flag))
        .map(|(_, kind)| kind)
}
