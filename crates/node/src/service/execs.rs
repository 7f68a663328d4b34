//! Commands in sandboxes: starting goes through the actor, reading through the journal.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use skerry_journal::{Entry, ExecReader, Record, Stream};
use skerry_proto::agent::{Call, ListProcesses, Reply};
use skerry_proto::frame::CHUNK_BYTES;
use skerry_proto::node::{
    ExecEvent, ExecEventBody, ExecFilter, ExecName, ExecRecord, Execs, ProcessInfo, StartExec,
    TtySize,
};
use skerry_types::{Error, ExecId, Result, SandboxId};
use tokio::sync::watch;

use crate::actor::{Command, Shared, journal_error};
use crate::agent::text;
use crate::event::Event;
use crate::node::Node;
use crate::transfer::Transfer;

#[async_trait]
impl Execs for Node {
    async fn start_exec(&self, sandbox: SandboxId, request: StartExec) -> Result<ExecRecord> {
        let request = Box::new(request);
        self.handle(sandbox)?
            .ask(|reply| Command::StartExec(request, reply))
            .await
    }

    async fn get_exec(&self, sandbox: SandboxId, exec: ExecId) -> Result<ExecRecord> {
        let shared = self.record(sandbox).await?;
        let record = shared.history.read().exec(exec).cloned();
        record.ok_or_else(|| Error::not_found(format!("exec {exec}")))
    }

    async fn await_exec(&self, sandbox: SandboxId, exec: ExecId) -> Result<ExecRecord> {
        let shared = self.record(sandbox).await?;
        let mut grown = shared.journal.subscribe();
        loop {
            // Asked for before it is looked at, so that nothing falls between.
            let mut started = pin!(shared.started.notified());
            started.as_mut().enable();
            grown.borrow_and_update();
            let record = shared.history.read().exec(exec).cloned();
            let record = record.ok_or_else(|| Error::not_found(format!("exec {exec}")))?;
            if record.pid.is_some() || record.end.is_some() {
                return Ok(record);
            }
            tokio::select! {
                () = started => {}
                // An end without a process is told here only.
                changed = grown.changed() => if changed.is_err() {
                    return Ok(record);
                },
            }
        }
    }

    async fn find_exec(&self, sandbox: SandboxId, name: &ExecName) -> Result<ExecRecord> {
        let shared = self.record(sandbox).await?;
        let record = shared.history.read().find_exec(name).cloned();
        record.ok_or_else(|| Error::not_found(format!("an exec with {name}")))
    }

    async fn list_execs(&self, sandbox: SandboxId, filter: ExecFilter) -> Result<Vec<ExecRecord>> {
        Ok(self
            .record(sandbox)
            .await?
            .history
            .read()
            .select_execs(&filter))
    }

    async fn exec_events(
        &self,
        sandbox: SandboxId,
        exec: ExecId,
        after_seq: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<ExecEvent>>> {
        let shared = self.record(sandbox).await?;
        let (has_ended, last_seq) = {
            let history = shared.history.read();
            let record = history.exec(exec);
            let record = record.ok_or_else(|| Error::not_found(format!("exec {exec}")))?;
            (record.end.is_some(), history.exec_seq(exec))
        };
        if has_ended && after_seq >= last_seq {
            // The reader has its end; nothing will ever follow.
            return Ok(stream::empty().boxed());
        }
        Ok(ExecCursor::new(&shared, exec, after_seq, follow).stream())
    }

    async fn exec_stdin(
        &self,
        sandbox: SandboxId,
        exec: ExecId,
        mut data: Bytes,
        eof: bool,
    ) -> Result<()> {
        let handle = self.handle(sandbox)?;
        loop {
            let chunk = data.split_to(data.len().min(CHUNK_BYTES));
            let is_last = data.is_empty();
            handle
                .ask(|reply| Command::Stdin {
                    exec,
                    data: chunk,
                    eof: eof && is_last,
                    reply,
                })
                .await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn exec_signal(&self, sandbox: SandboxId, exec: ExecId, signal: i32) -> Result<()> {
        let handle = self.handle(sandbox)?;
        let call = handle
            .ask(|reply| Command::Signal(exec, signal, reply))
            .await?;
        Transfer::start(&handle, call).await?.answer().await?;
        Ok(())
    }

    async fn exec_resize(&self, sandbox: SandboxId, exec: ExecId, size: TtySize) -> Result<()> {
        self.handle(sandbox)?
            .ask(|reply| Command::Resize(exec, size, reply))
            .await
    }

    async fn list_processes(&self, sandbox: SandboxId) -> Result<Vec<ProcessInfo>> {
        let handle = self.handle(sandbox)?;
        let transfer = Transfer::start(&handle, Call::ListProcesses(ListProcesses {})).await?;
        let Reply::Processes(processes) = transfer.answer().await? else {
            return Err(Error::internal("the agent answered something else"));
        };
        Ok(processes
            .processes
            .iter()
            .map(|p| ProcessInfo {
                pid: p.pid,
                ppid: p.ppid,
                argv: p.argv.iter().map(|a| text(a)).collect(),
            })
            .collect())
    }
}

/// A reader of one exec's events.
struct ExecCursor {
    reader: ExecReader,
    grown: watch::Receiver<u64>,
    after_seq: u64,
    ready: VecDeque<ExecEvent>,
    is_over: bool,
    follow: bool,
}

impl ExecCursor {
    fn new(shared: &Arc<Shared>, exec: ExecId, after_seq: u64, follow: bool) -> Self {
        Self {
            reader: shared.journal.exec_reader(exec, after_seq),
            grown: shared.journal.subscribe(),
            after_seq,
            ready: VecDeque::new(),
            is_over: false,
            follow: follow && shared.journal.can_grow(),
        }
    }

    fn stream(self) -> BoxStream<'static, Result<ExecEvent>> {
        stream::unfold(self, |mut cursor| async move {
            let next = cursor.next().await.transpose()?;
            Some((next, cursor))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<ExecEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.is_over {
                return Ok(None);
            }
            self.grown.borrow_and_update();
            let batch = self.reader.next_batch().map_err(|e| {
                self.is_over = true;
                journal_error(&e)
            })?;
            let is_at_end = batch.is_empty();
            if !is_at_end {
                // Who reads may want little of a long record: others have their turn in between.
                tokio::task::yield_now().await;
            }
            for event in batch.into_iter().filter_map(exec_event) {
                // Also for a reader that claims to have more than there is.
                self.is_over |= matches!(event.body, ExecEventBody::End { .. });
                if event.seq > self.after_seq {
                    self.ready.push_back(event);
                }
            }
            // What was read may have been all known to the reader, and more follow.
            if self.is_over || !is_at_end {
                continue;
            }
            if !self.follow || self.grown.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

fn exec_event(entry: Entry) -> Option<ExecEvent> {
    let (seq, body) = match entry.record {
        Record::Output {
            exec_seq,
            stream,
            data,
            ..
        } => match stream {
            Stream::Stdout => (exec_seq, ExecEventBody::Stdout(data)),
            Stream::Stderr => (exec_seq, ExecEventBody::Stderr(data)),
        },
        Record::Event { kind, data, .. } => match Event::parse(&kind, &data)? {
            Event::ExecCompleted(ended) | Event::ExecFailed(ended) => (
                ended.exec_seq,
                ExecEventBody::End {
                    end: ended.end,
                    usage: ended.resource_usage,
                    duration_ms: ended.duration_ms,
                },
            ),
            _ => return None,
        },
    };
    Some(ExecEvent {
        seq,
        at: entry.at,
        body,
    })
}

/// The exec and event that a journal entry is about, if it is about output or the end of one.
pub(super) fn of_exec(entry: Entry) -> Option<(ExecId, ExecEvent)> {
    let exec = entry.record.exec()?;
    Some((exec, exec_event(entry)?))
}
