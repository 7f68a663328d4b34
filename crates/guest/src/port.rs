//! A port to the host: a stream whose other end comes and goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::epoll;

/// The host tells of its ports within milliseconds of the first look.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Port {
    file: File,
    /// Wakes at each change, and only then: a port without a host is always ready.
    changes: OwnedFd,
}

impl Port {
    /// Opens the port of this name, which the kernel may not have heard of yet.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let began = Instant::now();
        let device = loop {
            if let Some(device) = find(name)? {
                break device;
            }
            if began.elapsed() > PATIENCE {
                return Err(ErrorKind::NotFound.into());
            }
            sleep(LOOK_AGAIN);
        };
        let file = OpenOptions::new().read(true).write(true).open(device)?;
        let changes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&changes, &file, epoll::EventData::new_u64(0), events)?;
        Ok(Self { file, changes })
    }

    /// Another handle on it.
    pub(crate) fn share(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            changes: self.changes.try_clone()?,
        })
    }

    /// Reads at least one byte, however long there is no host.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.file).read(buffer) {
                Ok(0) => self.change()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Writes all, however long there is no host.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    fn change(&self) -> io::Result<()> {
        let mut events = [MaybeUninit::uninit(); 1];
        match epoll::wait(&self.changes, &mut events, None) {
            Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn find(name: &str) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        // It is there before its name is.
        let known = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if known.trim() == name {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}
