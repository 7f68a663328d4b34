//! Changes below a directory, as the kernel tells of them.

use std::collections::HashMap;
use std::fs;
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

const CREATED: u32 = 1;
const WRITTEN: u32 = 2;
const REMOVED: u32 = 3;
const RENAMED_AWAY: u32 = 4;
const RENAMED_HERE: u32 = 5;
const ATTRIBUTES: u32 = 6;
const LOST: u32 = 7;

/// A watch on one directory, and on those below it if wanted.
pub(super) struct Watch {
    id: u64,
    kernel: OwnedFd,
    root: PathBuf,
    recursive: bool,
    folders: HashMap<i32, PathBuf>,
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
        };
        this.add(root).doing("watch", root)?;
        if recursive {
            let mut events = Vec::new();
            this.add_below(root, &mut events);
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
            let events = events?;
            for event in events {
                for (kind, path) in self.understand(&event) {
                    outbox.has_room().await;
                    outbox.send(Body::Watched(Watched {
                        id: self.id,
                        kind,
                        path: Bytes::copy_from_slice(path.as_os_str().as_bytes()),
                    }));
                }
            }
        }
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
        let number = inotify::add_watch(&self.kernel, folder, what)?;
        self.folders.insert(number, folder.to_owned());
        Ok(())
    }

    /// Watches all directories below one; what is in them already is told of as created.
    fn add_below(&mut self, folder: &Path, events: &mut Vec<(u32, PathBuf)>) {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                events.push((CREATED, path.clone()));
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let full = self.folders.len() >= MAX_FOLDERS;
                    match if full {
                        Err(Errno::NOSPC)
                    } else {
                        self.add(&path)
                    } {
                        Ok(()) => folders.push(path),
                        Err(Errno::NOENT | Errno::NOTDIR) => {}
                        Err(_) => events.push((LOST, path)),
                    }
                }
            }
        }
    }

    fn understand(&mut self, event: &Event) -> Vec<(u32, PathBuf)> {
        let flags = event.flags;
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return vec![(LOST, self.root.clone())];
        }
        let Some(folder) = self.folders.get(&event.folder).cloned() else {
            return Vec::new();
        };
        if flags.contains(ReadFlags::IGNORED) {
            self.folders.remove(&event.folder);
            return Vec::new();
        }
        if flags.contains(ReadFlags::DELETE_SELF) {
            let told_by_parent = folder != self.root;
            return if told_by_parent {
                Vec::new()
            } else {
                vec![(REMOVED, folder)]
            };
        }
        let path = match &event.name {
            Some(name) => folder.join(std::ffi::OsStr::from_bytes(name)),
            None if folder == self.root => folder,
            // The parent's watch tells the same.
            None => return Vec::new(),
        };
        let Some(kind) = kind(flags) else {
            return Vec::new();
        };
        let mut events = vec![(kind, path.clone())];
        if self.recursive && flags.contains(ReadFlags::ISDIR) {
            self.follow(kind, &path, &mut events);
        }
        events
    }

    /// Keeps the watches where the directories are.
    fn follow(&mut self, kind: u32, path: &Path, events: &mut Vec<(u32, PathBuf)>) {
        match kind {
            CREATED | RENAMED_HERE => match self.add(path) {
                Ok(()) => self.add_below(path, events),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => events.push((LOST, path.to_owned())),
            },
            RENAMED_AWAY => {
                let gone = self
                    .folders
                    .extract_if(|_, folder| folder.starts_with(path));
                for (number, _) in gone.collect::<Vec<_>>() {
                    // It may have ended by itself.
                    let _: rustix::io::Result<()> = inotify::remove_watch(&self.kernel, number);
                }
            }
            _ => {}
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
