//! Records of sandboxes.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use serde_json::{Value, json};
use skerry_journal::{Entry, Reader, Record, Stream};
use skerry_proto::node::{Events, JournalEvent};
use skerry_types::{Error, Result, SandboxId, SandboxState};
use tokio::sync::watch;

use crate::actor::{Shared, journal_error};
use crate::node::Node;

#[async_trait]
impl Events for Node {
    async fn events(
        &self,
        sandbox: SandboxId,
        after_seq: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<JournalEvent>>> {
        let shared = self.record(sandbox).await?;
        let is_over = {
            let shared = Arc::clone(&shared);
            move || shared.history.read().state == SandboxState::Deleted
        };
        let cursor = JournalCursor::new(&shared, after_seq, follow, Box::new(is_over));
        Ok(
            stream::unfold((cursor, VecDeque::new()), |state| async move {
                let (mut cursor, mut ready): (JournalCursor, VecDeque<JournalEvent>) = state;
                if ready.is_empty() {
                    match cursor.next_batch().await {
                        Ok(batch) => ready.extend(batch?.into_iter().map(journal_event)),
                        Err(error) => return Some((Err(error), (cursor, ready))),
                    }
                }
                let event = ready.pop_front()?;
                Some((Ok(event), (cursor, ready)))
            })
            .boxed(),
        )
    }

    async fn purge_journals(&self, deleted_before: Timestamp) -> Result<u64> {
        self.remove_journals(deleted_before.into())
            .map_err(|e| Error::internal(format!("cannot remove a journal: {e}")))
    }
}

/// A reader of a whole journal.
pub(super) struct JournalCursor {
    reader: Reader,
    grown: watch::Receiver<u64>,
    follow: bool,
    /// Whether nothing more can come.
    is_over: Box<dyn Fn() -> bool + Send>,
}

impl JournalCursor {
    pub(super) fn new(
        shared: &Arc<Shared>,
        after_seq: u64,
        follow: bool,
        is_over: Box<dyn Fn() -> bool + Send>,
    ) -> Self {
        Self {
            reader: shared.journal.reader(after_seq),
            grown: shared.journal.subscribe(),
            follow: follow && shared.journal.can_grow(),
            is_over,
        }
    }

    /// The next entries; `None` after the last.
    pub(super) async fn next_batch(&mut self) -> Result<Option<Vec<Entry>>> {
        loop {
            self.grown.borrow_and_update();
            let is_over = (self.is_over)();
            let batch = self.reader.next_batch().map_err(|e| journal_error(&e))?;
            if !batch.is_empty() {
                // Who reads may want little of a long record: others have their turn in between.
                tokio::task::yield_now().await;
                return Ok(Some(batch));
            }
            if !self.follow || is_over || self.grown.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

fn journal_event(entry: Entry) -> JournalEvent {
    let (kind, data) = match entry.record {
        Record::Event { kind, data, .. } => (kind, data),
        Record::Output {
            exec,
            exec_seq,
            stream,
            data,
        } => {
            let stream = match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            };
            let mut value = json!({ "exec_id": exec, "exec_seq": exec_seq, "stream": stream });
            put_bytes(&mut value, &data);
            ("exec.output".to_owned(), value)
        }
    };
    JournalEvent {
        seq: entry.seq,
        ts: entry.at,
        kind,
        data,
    }
}

/// Text as `data`; anything else as `data_base64`, lossless.
fn put_bytes(value: &mut Value, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        value["data"] = Value::from(text);
    } else {
        value["data_base64"] = Value::from(STANDARD.encode(bytes));
    }
}
