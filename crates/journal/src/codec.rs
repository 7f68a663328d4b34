//! Bytes of a record: a fixed header of [`HEADER_BYTES`], then the payload. Little-endian.
//!
//! ```text
//! 0  u32  payload length
//! 4  u32  CRC-32 of all that follows
//! 8  u64  seq
//! 16 i64  microseconds since 1970
//! 24 u8   kind: 1 event, 2 stdout, 3 stderr
//! 25 [u8; 16] exec id, or zeros
//! 41 u64  number in the exec (output), or 0
//! ```
//! An event's payload is JSON `[type, data]`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use skerry_types::ExecId;

use crate::record::{Entry, Record, Stream};

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 49;
/// The largest payload of one record.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

const EVENT: u8 = 1;
const STDOUT: u8 = 2;
const STDERR: u8 = 3;

/// What an index needs to know of a record without reading its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) payload_len: usize,
    pub(crate) crc: u32,
    pub(crate) seq: u64,
    at: i64,
    kind: u8,
    exec: [u8; 16],
    pub(crate) exec_seq: u64,
}

impl Header {
    pub(crate) fn exec(&self) -> Option<ExecId> {
        (self.exec != [0; 16])
            .then(|| ExecId::from_slice(&self.exec))
            .flatten()
    }

    pub(crate) fn record_len(&self) -> usize {
        HEADER_BYTES + self.payload_len
    }
}

/// Appends a record's bytes to `out`.
pub(crate) fn encode(seq: u64, at: Timestamp, record: &Record, out: &mut BytesMut) {
    let start = out.len();
    out.put_bytes(0, 8);
    out.put_u64_le(seq);
    out.put_i64_le(at.as_microsecond());
    match record {
        Record::Event { kind, data, exec } => {
            out.put_u8(EVENT);
            out.put_slice(&exec.map_or([0; 16], ExecId::bytes));
            out.put_u64_le(0);
            out.put_slice(serde_json::json!([kind, data]).to_string().as_bytes());
        }
        Record::Output {
            exec,
            exec_seq,
            stream,
            data,
        } => {
            out.put_u8(match stream {
                Stream::Stdout => STDOUT,
                Stream::Stderr => STDERR,
            });
            out.put_slice(&exec.bytes());
            out.put_u64_le(*exec_seq);
            out.put_slice(data);
        }
    }
    let payload_len = (out.len() - start - HEADER_BYTES) as u32;
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&payload_len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The header at the front of `bytes`; `None` if it is cut off or cannot be one.
pub(crate) fn header(mut bytes: &[u8]) -> Option<Header> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let payload_len = bytes.get_u32_le() as usize;
    let crc = bytes.get_u32_le();
    let seq = bytes.get_u64_le();
    let at = bytes.get_i64_le();
    let kind = bytes.get_u8();
    let mut exec = [0; 16];
    bytes.copy_to_slice(&mut exec);
    let exec_seq = bytes.get_u64_le();
    (payload_len <= MAX_RECORD_BYTES).then_some(Header {
        payload_len,
        crc,
        seq,
        at,
        kind,
        exec,
        exec_seq,
    })
}

/// Whether a whole record's bytes are as they were written.
pub(crate) fn intact(header: &Header, record: &[u8]) -> bool {
    record.len() == header.record_len() && crc32fast::hash(&record[8..]) == header.crc
}

/// The record whose header and payload these are; `None` for a kind that a later version wrote, or damage.
pub(crate) fn decode(header: &Header, payload: &Bytes) -> Option<Entry> {
    let exec = header.exec();
    let output = |stream| {
        Some(Record::Output {
            exec: exec?,
            exec_seq: header.exec_seq,
            stream,
            data: payload.clone(),
        })
    };
    let record = match header.kind {
        EVENT => {
            let (kind, data) = serde_json::from_slice(payload).ok()?;
            Record::Event { kind, data, exec }
        }
        STDOUT => output(Stream::Stdout)?,
        STDERR => output(Stream::Stderr)?,
        _ => return None,
    };
    Some(Entry {
        seq: header.seq,
        at: Timestamp::from_microsecond(header.at).ok()?,
        record,
    })
}
