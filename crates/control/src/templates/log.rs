//! What a build says: lines on record, bounded, and announced to whoever follows.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use skerry_store::{LogLine, Store, Tenant};
use skerry_types::BuildId;

use super::work::{Job, Live};

/// Lines of one build. What is said after them is left out.
const MAX_LINES: u64 = 20_000;
/// Bytes of one line.
const MAX_LINE: usize = 2048;
/// The level of the last line.
pub(super) const END: &str = "end";
/// Lines of output that an error repeats.
const TAIL: usize = 10;

/// See the module.
pub(super) struct Log {
    store: Store,
    live: Arc<Live>,
    tenant: Tenant,
    build: BuildId,
    seq: u64,
    step: Option<String>,
    /// What a command wrote since its last line end.
    partial: Vec<u8>,
    tail: VecDeque<String>,
    pending: Vec<LogLine>,
}

impl Log {
    pub(super) fn new(store: Store, job: &Job) -> Self {
        Self {
            store,
            live: Arc::clone(&job.live),
            tenant: job.caller.tenant,
            build: job.build.id,
            seq: 0,
            step: None,
            partial: Vec::new(),
            tail: VecDeque::new(),
            pending: Vec::new(),
        }
    }

    /// A step begins; lines belong to it from now on.
    pub(super) async fn step(&mut self, text: &str, remark: &str) {
        self.step = Some(text.to_owned());
        self.tail.clear();
        self.info(remark).await;
    }

    pub(super) async fn info(&mut self, message: &str) {
        self.push("info", message);
        self.flush().await;
    }

    pub(super) async fn error(&mut self, message: &str) {
        self.end_line();
        for line in message.lines() {
            self.push("error", line);
        }
        self.flush().await;
    }

    /// The last line: how it ended.
    pub(super) async fn end(&mut self, how: &str) {
        self.push(END, how);
        self.flush().await;
    }

    /// Bytes that a command wrote.
    pub(super) fn output(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            // Progress bars write over their line: each state is one.
            if piece.ends_with(b"\n") || self.partial.len() >= MAX_LINE {
                self.end_line();
            }
        }
    }

    /// A command has ended.
    pub(super) fn end_line(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.partial);
        let line = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
        let line = line.trim_end_matches(['\r', '\n']);
        let line = line.rsplit('\r').next().unwrap_or_default();
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        self.push("output", line);
    }

    /// The last lines that the command of this step wrote.
    pub(super) fn tail(&self) -> String {
        self.tail.iter().map(|line| format!("\n  {line}")).collect()
    }

    fn push(&mut self, level: &str, message: &str) {
        let is_output = level == "output";
        if is_output && self.seq >= MAX_LINES {
            return;
        }
        self.seq += 1;
        let message = match message.char_indices().nth(MAX_LINE) {
            _ if is_output && self.seq == MAX_LINES => "the rest of the output is left out",
            Some((end, _)) => &message[..end],
            None => message,
        };
        self.pending.push(LogLine {
            seq: self.seq,
            ts: Timestamp::now(),
            level: level.to_owned(),
            step: self.step.clone(),
            message: message.to_owned(),
        });
    }

    /// Puts on record what was said, and tells it.
    pub(super) async fn flush(&mut self) {
        for lines in std::mem::take(&mut self.pending).chunks(256) {
            let kept = self.store.append_log(&self.tenant, self.build, lines).await;
            if let Err(error) = kept {
                // The build is worth more than its log.
                tracing::warn!(build = %self.build, %error, "lines of a build's log are lost");
            }
        }
        self.live.has_lines(self.seq);
    }
}
