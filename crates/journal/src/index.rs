//! Where records are, kept in memory: small, and rebuilt from headers when a journal is opened.

use std::collections::HashMap;

use skerry_types::ExecId;

use crate::codec::Header;

/// Neighbouring records are found together: a mark stands for about this many bytes.
const STRIDE: u64 = 256 * 1024;
/// For each extent that there is, so many bytes of other execs between two records are passed over rather than left out: execs that
/// write byte by byte in turn would otherwise make the index as large as the journal.
const BRIDGE: u64 = 64;

/// A run of bytes that holds records of one exec, and now and then a few of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The last output number in it; 0 if it has none.
    last_exec_seq: u64,
}

/// Where records are.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Seq and offset of the first record of each stride.
    marks: Vec<(u64, u64)>,
    execs: HashMap<ExecId, Vec<Extent>>,
    /// How many extents they have together.
    extents: u64,
    /// Bytes and records so far.
    pub(crate) end: u64,
    pub(crate) last_seq: u64,
}

impl Index {
    /// Takes in the record that begins at the end.
    pub(crate) fn push(&mut self, header: &Header) {
        let start = self.end;
        self.end += header.record_len() as u64;
        self.last_seq = header.seq;
        if self.marks.last().is_none_or(|m| start - m.1 >= STRIDE) {
            self.marks.push((header.seq, start));
        }
        if let Some(exec) = header.exec() {
            self.extend(exec, start, header.exec_seq);
        }
    }

    fn extend(&mut self, exec: ExecId, start: u64, exec_seq: u64) {
        let extents = self.execs.entry(exec).or_default();
        let bridge = BRIDGE * self.extents;
        match extents.last_mut() {
            Some(last) if start - last.end <= bridge && start - last.start < STRIDE + bridge => {
                last.end = self.end;
                last.last_exec_seq = last.last_exec_seq.max(exec_seq);
            }
            _ => {
                self.extents += 1;
                extents.push(Extent {
                    start,
                    end: self.end,
                    last_exec_seq: exec_seq,
                });
            }
        }
    }

    /// An offset at or before the record after `seq`.
    pub(crate) fn seek(&self, seq: u64) -> u64 {
        let at = self.marks.partition_point(|m| m.0 <= seq.saturating_add(1));
        at.checked_sub(1).map_or(0, |i| self.marks[i].1)
    }

    /// The exec's first extent that ends after `offset` and may hold output after `exec_seq`.
    pub(crate) fn exec_extent(&self, exec: ExecId, offset: u64, exec_seq: u64) -> Option<Extent> {
        let extents = self.execs.get(&exec)?;
        let first = extents.partition_point(|e| e.end <= offset);
        // The last extent may hold the end, which carries its number inside.
        extents[first..]
            .iter()
            .enumerate()
            .find(|(i, e)| e.last_exec_seq > exec_seq || first + i + 1 == extents.len())
            .map(|(_, e)| *e)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use jiff::Timestamp;

    use super::*;
    use crate::codec;
    use crate::record::{Record, Stream};

    #[test]
    fn many_execs_that_write_in_turn_byte_by_byte_do_not_fill_memory() {
        const RECORDS: u64 = 1_000_000;
        let mut index = Index::default();
        for seq in 1..=RECORDS {
            let record = Record::Output {
                exec: ExecId::from_slice(&[(seq % 100) as u8 + 1; 16]).unwrap(),
                exec_seq: seq / 100 + 1,
                stream: Stream::Stdout,
                data: Bytes::from_static(b"x"),
            };
            let mut bytes = BytesMut::new();
            codec::encode(seq, Timestamp::UNIX_EPOCH, &record, &mut bytes);
            index.push(&codec::header(&bytes).unwrap());
        }
        assert!(index.extents < RECORDS / 20, "{} extents", index.extents);
    }
}
