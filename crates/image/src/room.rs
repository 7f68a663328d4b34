//! Room on the disk, asked for before it is used, so that images take nothing that others need.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;

/// How much is written between two looks.
pub(crate) const LOOK_BYTES: u64 = 4 * 1024 * 1024;

/// Says whether so many bytes more may be written; any number, unless said.
#[derive(Clone)]
pub struct Room(Arc<dyn Fn(u64) -> io::Result<()> + Send + Sync>);

impl Room {
    /// `ask` fails, as a write would, where that many bytes are not free.
    pub fn new(ask: impl Fn(u64) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(crate) fn ask(&self, bytes: u64) -> io::Result<()> {
        (self.0)(bytes)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new(|_| Ok(()))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

/// A file without a name on the disk of the store, which takes no more than there is room for.
///
/// Small pieces go to the page cache, so writing them does not hold a runtime up.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    room: Room,
    /// What may be written before room is asked for again.
    left: u64,
}

impl Scratch {
    pub(crate) fn new(file: File, room: Room) -> Self {
        let left = 0;
        Self { file, room, left }
    }

    /// The file, to be read from its start.
    pub(crate) fn done(mut self) -> io::Result<File> {
        self.file.rewind()?;
        Ok(self.file)
    }
}

impl Write for Scratch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if self.left < length {
            self.left = length.max(LOOK_BYTES);
            self.room.ask(self.left)?;
        }
        let written = self.file.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
