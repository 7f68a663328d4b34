//! The file and its one writer.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use skerry_types::ExecId;
use tokio::sync::watch;

use crate::codec;
use crate::index::Index;
use crate::meter::Meter;
use crate::reader::{ExecReader, Reader};
use crate::record::Record;

/// Why a journal could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file could not be opened or made.
    #[error("cannot open the journal {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read the journal {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is larger than [`codec::MAX_RECORD_BYTES`]. Nothing was written.
    #[error("a record has more than {} bytes", codec::MAX_RECORD_BYTES)]
    TooLarge,
    /// Nothing was written: the journal is as it was before.
    #[error("cannot write the journal {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl JournalError {
    /// The disk, or the quota on it, is full.
    pub fn is_disk_full(&self) -> bool {
        let (Self::Open { source, .. } | Self::Read { source, .. } | Self::Write { source, .. }) =
            self
        else {
            return false;
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The number of the first record.
    pub first_seq: u64,
    /// The number of the last.
    pub last_seq: u64,
    /// The time they all carry, to the microsecond.
    pub at: Timestamp,
}

/// The log of one sandbox.
#[derive(Debug)]
pub struct Journal {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) index: RwLock<Index>,
    /// Taken for the length of one append, so that two can never interleave.
    writing: Mutex<BytesMut>,
    meter: Meter,
    grown: watch::Sender<u64>,
    can_grow: bool,
}

impl Journal {
    /// Opens the journal at `path` for its one writer, or makes one. What a crash left half-written at its end is cut off.
    ///
    /// `meter` counts what is in it and what will be.
    pub fn open(path: &Path, meter: &Meter) -> Result<Arc<Self>, JournalError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let journal = Self::open_with(path, &mut options, meter, true)?;
        journal.cut().map_err(|source| JournalError::Open {
            path: path.to_owned(),
            source,
        })?;
        meter.begin(journal.size());
        Ok(journal)
    }

    /// Opens a journal that nobody writes any more, to read it; appending fails.
    pub fn open_ended(path: &Path) -> Result<Arc<Self>, JournalError> {
        Self::open_with(path, &mut OpenOptions::new(), &Meter::default(), false)
    }

    fn open_with(
        path: &Path,
        options: &mut OpenOptions,
        meter: &Meter,
        can_grow: bool,
    ) -> Result<Arc<Self>, JournalError> {
        let file = options
            .read(true)
            .open(path)
            .map_err(|source| JournalError::Open {
                path: path.to_owned(),
                source,
            })?;
        let index = scan(&file).map_err(|source| JournalError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            file,
            grown: watch::Sender::new(index.last_seq),
            index: RwLock::new(index),
            writing: Mutex::new(BytesMut::new()),
            meter: meter.clone(),
            can_grow,
        }))
    }

    /// Cuts off what is not whole. Cutting nothing off a new file would have ext4 write it out when it is closed.
    fn cut(&self) -> io::Result<()> {
        let size = self.size();
        if self.file.metadata()?.len() == size {
            return Ok(());
        }
        self.file.set_len(size)
    }

    /// Writes records, all or none of them. Readers see them when this returns.
    pub fn append(&self, records: &[Record]) -> Result<Appended, JournalError> {
        let mut buffer = self.writing.lock();
        let (start, first) = {
            let index = self.index.read();
            (index.end, index.last_seq + 1)
        };
        let now = microseconds(Timestamp::now());
        buffer.clear();
        for (seq, record) in (first..).zip(records) {
            let before = buffer.len();
            codec::encode(seq, now, record, &mut buffer);
            // No reader would look at one that says it is larger.
            if buffer.len() - before > codec::MAX_RECORD_BYTES {
                return Err(JournalError::TooLarge);
            }
        }
        if let Err(source) = self.file.write_all_at(&buffer, start) {
            // Best effort: what is beyond the index is never read, and cut off at the next open.
            drop(self.file.set_len(start));
            return Err(JournalError::Write {
                path: self.path.clone(),
                source,
            });
        }
        let last_seq = self.publish(&buffer);
        self.meter.add(buffer.len() as u64);
        if buffer.capacity() > 4 * codec::MAX_RECORD_BYTES {
            *buffer = BytesMut::new();
        }
        drop(buffer);
        self.grown.send_replace(last_seq);
        Ok(Appended {
            first_seq: first,
            last_seq,
            at: now,
        })
    }

    fn publish(&self, mut written: &[u8]) -> u64 {
        let mut index = self.index.write();
        while let Some(header) = codec::header(written) {
            index.push(&header);
            written = &written[header.record_len()..];
        }
        index.last_seq
    }

    /// The number of the last record, 0 for none.
    pub fn last_seq(&self) -> u64 {
        self.index.read().last_seq
    }

    /// Whether it was opened to be written: there may be more of it later.
    pub fn can_grow(&self) -> bool {
        self.can_grow
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.index.read().end
    }

    /// Tells the number of the last record each time there are new ones.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// A cursor over all records after `seq`.
    pub fn reader(self: &Arc<Self>, after_seq: u64) -> Reader {
        Reader::new(Arc::clone(self), after_seq)
    }

    /// A cursor over the records of one exec, leaving out output up to number `after_exec_seq`. Events come whatever their number.
    pub fn exec_reader(self: &Arc<Self>, exec: ExecId, after_exec_seq: u64) -> ExecReader {
        ExecReader::new(Arc::clone(self), exec, after_exec_seq)
    }
}

/// The journal keeps microseconds; what is said of a record must be what is read later.
fn microseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Reads the file from the start up to the first record that is not whole.
fn scan(file: &File) -> io::Result<Index> {
    let len = file.metadata()?.len();
    let mut index = Index::default();
    let most = codec::MAX_RECORD_BYTES + codec::HEADER_BYTES;
    let mut buffer = vec![0; len.min(most as u64) as usize];
    let mut record = Vec::new();
    let (mut held, mut from) = (0, 0u64);
    loop {
        let read = read_up_to(file, &mut buffer[held..], from + held as u64)?;
        held += read;
        let mut used = 0;
        while let Some(header) = codec::header(&buffer[used..held]) {
            let Some(bytes) = buffer[used..held].get(..header.record_len()) else {
                break;
            };
            record.clear();
            record.extend_from_slice(bytes);
            if header.seq != index.last_seq + 1 || !codec::intact(&header, &record) {
                return Ok(index);
            }
            index.push(&header);
            used += header.record_len();
        }
        if used == 0 || from + held as u64 >= len && used == held {
            return Ok(index);
        }
        buffer.copy_within(used..held, 0);
        held -= used;
        from += used as u64;
    }
}

/// Fills `buffer` from `offset` as far as the file goes.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
