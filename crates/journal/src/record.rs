//! What stands in a journal.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use skerry_types::ExecId;

/// A record with its number and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was written, to the microsecond.
    pub at: Timestamp,
    /// What.
    pub record: Record,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Anything but output. `exec` is set for the events of an exec, so that its reader finds them.
    Event {
        /// The type, as in `docs/events.md`.
        kind: String,
        /// What belongs to it.
        data: Value,
        /// The exec it is about.
        exec: Option<ExecId>,
    },
    /// Bytes that an exec wrote, exactly.
    Output {
        /// Which exec.
        exec: ExecId,
        /// The number of this event in the exec.
        exec_seq: u64,
        /// Where it wrote them.
        stream: Stream,
        /// The bytes.
        data: Bytes,
    },
}

impl Record {
    /// An event of the sandbox itself.
    pub fn event(kind: &str, data: Value) -> Self {
        Self::Event {
            kind: kind.to_owned(),
            data,
            exec: None,
        }
    }

    /// An event of one exec.
    pub fn exec_event(kind: &str, exec: ExecId, data: Value) -> Self {
        Self::Event {
            kind: kind.to_owned(),
            data,
            exec: Some(exec),
        }
    }

    /// The exec it is about.
    pub fn exec(&self) -> Option<ExecId> {
        match self {
            Self::Event { exec, .. } => *exec,
            Self::Output { exec, .. } => Some(*exec),
        }
    }
}

/// Which stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and all that a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}
