//! Cursors. Reading is a `pread` of at most a few hundred KiB, nearly always from the page cache, so it is done in place.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use skerry_types::ExecId;

use crate::codec::{self, HEADER_BYTES, MAX_RECORD_BYTES};
use crate::journal::{Journal, JournalError, read_up_to};
use crate::record::{Entry, Record};

/// Bytes read at once.
const BATCH_BYTES: usize = 256 * 1024;

/// A cursor over a whole journal.
#[derive(Debug)]
pub struct Reader {
    journal: Arc<Journal>,
    offset: u64,
    after_seq: u64,
}

impl Reader {
    pub(crate) fn new(journal: Arc<Journal>, after_seq: u64) -> Self {
        let offset = journal.index.read().seek(after_seq);
        Self {
            journal,
            offset,
            after_seq,
        }
    }

    /// The next records there are, a bounded number of them; empty at the end for now.
    pub fn next_batch(&mut self) -> Result<Vec<Entry>, JournalError> {
        loop {
            let end = self.journal.index.read().end;
            if self.offset >= end {
                return Ok(Vec::new());
            }
            let (entries, used) = read_range(&self.journal, self.offset, end)?;
            self.offset += used;
            let fresh: Vec<Entry> = entries
                .into_iter()
                .filter(|e| e.seq > self.after_seq)
                .collect();
            if !fresh.is_empty() || used == 0 {
                return Ok(fresh);
            }
        }
    }
}

/// A cursor over the records of one exec.
#[derive(Debug)]
pub struct ExecReader {
    journal: Arc<Journal>,
    exec: ExecId,
    offset: u64,
    after_exec_seq: u64,
}

impl ExecReader {
    pub(crate) fn new(journal: Arc<Journal>, exec: ExecId, after_exec_seq: u64) -> Self {
        Self {
            journal,
            exec,
            offset: 0,
            after_exec_seq,
        }
    }

    /// The next records there are, a bounded number of them; empty at the end for now.
    pub fn next_batch(&mut self) -> Result<Vec<Entry>, JournalError> {
        loop {
            let extent =
                self.journal
                    .index
                    .read()
                    .exec_extent(self.exec, self.offset, self.after_exec_seq);
            let Some(extent) = extent else {
                return Ok(Vec::new());
            };
            let from = extent.start.max(self.offset);
            let (entries, used) = read_range(&self.journal, from, extent.end)?;
            self.offset = from + used;
            let fresh: Vec<Entry> = entries
                .into_iter()
                .filter(|e| e.record.exec() == Some(self.exec))
                .filter(|e| match &e.record {
                    Record::Output { exec_seq, .. } => *exec_seq > self.after_exec_seq,
                    Record::Event { .. } => true,
                })
                .collect();
            if !fresh.is_empty() || used == 0 {
                return Ok(fresh);
            }
        }
    }
}

/// Whole records from `start` on, up to `end` or a batch, and how many bytes they are.
fn read_range(journal: &Journal, start: u64, end: u64) -> Result<(Vec<Entry>, u64), JournalError> {
    let read = |len: usize| -> Result<Bytes, JournalError> {
        let mut buffer = BytesMut::zeroed(len);
        let filled =
            read_up_to(&journal.file, &mut buffer, start).map_err(|source| JournalError::Read {
                path: journal.path.clone(),
                source,
            })?;
        buffer.truncate(filled);
        Ok(buffer.freeze())
    };
    let available = usize::try_from(end - start).unwrap_or(usize::MAX);
    let bytes = read(available.min(BATCH_BYTES))?;
    let (entries, used) = decode_all(&bytes);
    if used > 0 || bytes.len() == available {
        return Ok((entries, used));
    }
    let bytes = read(available.min(MAX_RECORD_BYTES + HEADER_BYTES))?;
    Ok(decode_all(&bytes))
}

fn decode_all(bytes: &Bytes) -> (Vec<Entry>, u64) {
    let (mut entries, mut used) = (Vec::new(), 0);
    while let Some(header) = codec::header(&bytes[used..]) {
        let end = used + header.record_len();
        if end > bytes.len() {
            break;
        }
        entries.extend(codec::decode(
            &header,
            &bytes.slice(used + HEADER_BYTES..end),
        ));
        used = end;
    }
    (entries, used as u64)
}
