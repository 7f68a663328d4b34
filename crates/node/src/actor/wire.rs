//! What the agent says. Output goes into the journal in batches, and is acknowledged after that.

use std::time::Duration;

use skerry_journal::{Record, Stream};
use skerry_proto::agent::from_agent::Body as From;
use skerry_proto::agent::{
    ExecAck, ExecEnded, ExecOutput, FromAgent, GENERATION, NodeHello, STDERR, to_agent::Body as To,
};
use skerry_proto::frame::CHUNK_BYTES;
use skerry_types::{Error, ExecId, SessionId, Usage};

use super::{Actor, Incoming, journal_error};
use crate::event::Event;
use crate::link::LinkEvent;

/// What may wait for the journal: more than all that an agent of ours says before output is acknowledged, for one exec.
const BACKLOG_BYTES: usize = 1024 * 1024;
/// The same of small messages.
const BACKLOG_MESSAGES: usize = 8192;
/// How long the last words of an agent may take to read; they are in the socket already.
const LAST_WORDS: Duration = Duration::from_millis(200);

impl Actor {
    pub(super) fn attach(&mut self) {
        self.link.send(To::Hello(NodeHello {
            generation: GENERATION,
        }));
        self.attach_execs();
        self.let_go_if_held();
    }

    /// Takes in what waits for the journal, and reads what a dead agent has left in its socket.
    pub(super) async fn read_last_words(&mut self) {
        self.work_off_backlog().await;
        let deadline = tokio::time::Instant::now() + LAST_WORDS;
        while let Ok(LinkEvent::Messages(messages)) =
            tokio::time::timeout_at(deadline, self.link.next(true)).await
        {
            self.take_in(messages);
            self.work_off_backlog().await;
        }
    }

    /// Whether there is room for what the agent says next.
    pub(super) fn may_read(&self) -> bool {
        let bytes: usize = self.backlog.iter().map(output_bytes).sum();
        bytes < BACKLOG_BYTES && self.backlog.len() < BACKLOG_MESSAGES
    }

    /// Answers go to whoever asked, also past what waits for the journal: whom else could one ask to end what fills it?
    pub(super) fn take_in(&mut self, messages: Vec<FromAgent>) {
        for message in messages {
            if is_answer(&message) {
                self.on_message(Some(message));
            } else {
                self.backlog.push_back(message);
            }
        }
    }

    /// Handles messages in order, as far as the journal can be written.
    pub(super) async fn work_off_backlog(&mut self) {
        while let Some(message) = self.backlog.front() {
            let done = match &message.body {
                Some(From::ExecOutput(_)) => self.take_output_run(),
                Some(From::ExecEnded(ended)) => {
                    let ended = ended.clone();
                    self.take_end(ended).await
                }
                _ => {
                    let message = self.backlog.pop_front();
                    self.on_message(message);
                    continue;
                }
            };
            if !done {
                return;
            }
        }
    }

    /// Takes all the output at the front of the backlog as one write. `false`: the journal cannot be written now.
    fn take_output_run(&mut self) -> bool {
        let run = self
            .backlog
            .iter()
            .take_while(|m| matches!(m.body, Some(From::ExecOutput(_))))
            .count();
        let mut records: Vec<Record> = Vec::with_capacity(run);
        let mut last: Vec<(ExecId, u64)> = Vec::new();
        for message in self.backlog.iter().take(run) {
            let Some(From::ExecOutput(output)) = &message.body else {
                continue;
            };
            let Some(exec) = ExecId::from_slice(&output.exec_id) else {
                continue;
            };
            let known = last
                .iter()
                .find(|(e, _)| *e == exec)
                .map_or_else(|| self.shared.history.read().exec_seq(exec), |(_, s)| *s);
            if !self.is_known(exec) {
                return self.refuse("output of an exec that nobody started");
            }
            if !self.live.contains_key(&exec) || output.seq <= known {
                // A repeat, or an exec that is over for us: say again how far we are.
                last.retain(|(e, _)| *e != exec);
                last.push((exec, known.max(output.seq)));
                continue;
            }
            if output.seq != known + 1 || output.data.len() > CHUNK_BYTES {
                return self.refuse("its output is out of order");
            }
            last.retain(|(e, _)| *e != exec);
            last.push((exec, output.seq));
            records.push(record(exec, output));
        }
        if !records.is_empty() && !self.take_output(records) {
            return false;
        }
        self.backlog.drain(..run);
        for (exec, seq) in last {
            self.acknowledge(exec, seq);
        }
        true
    }

    /// Of one that is gone it is taken in whatever the disk does, and written as soon as that can be: nothing says it again.
    fn take_output(&mut self, records: Vec<Record>) -> bool {
        if let Err(error) = self.write_output(&records) {
            tracing::warn!(sandbox = %self.shared.id, %error, "output waits");
            if self.is_live {
                return false;
            }
            self.count_output(&records);
            self.owed.extend(records);
        }
        if self.is_record_full() && self.kill_at.is_none() {
            self.kill_at = Some(tokio::time::Instant::now());
        }
        true
    }

    fn write_output(&mut self, records: &[Record]) -> Result<(), Error> {
        if self.is_live {
            self.budget.check_share(self.shared.journal.size())?;
        }
        self.pay().map_err(|e| journal_error(&e))?;
        let appended = self.shared.journal.append(records);
        appended.map_err(|e| journal_error(&e))?;
        self.count_output(records);
        Ok(())
    }

    fn count_output(&self, records: &[Record]) {
        let mut history = self.shared.history.write();
        for record in records {
            if let Record::Output {
                exec,
                exec_seq,
                stream,
                data,
            } = record
            {
                history.output(*exec, *exec_seq, *stream, data.len());
            }
        }
    }

    async fn take_end(&mut self, ended: ExecEnded) -> bool {
        let Some(exec) = ExecId::from_slice(&ended.exec_id) else {
            self.backlog.pop_front();
            return true;
        };
        if !self.is_known(exec) {
            return self.refuse("the end of an exec that nobody started");
        }
        let known = self.shared.history.read().exec_seq(exec);
        if self.live.contains_key(&exec) {
            let Some(how) = ended.ended.filter(|_| ended.seq == known + 1) else {
                return self.refuse("an end without what came before it");
            };
            let end = self.judge(exec, how).await;
            let usage = Usage {
                cpu_ms: ended.cpu_ms,
                peak_memory_bytes: (ended.peak_memory_bytes > 0).then_some(ended.peak_memory_bytes),
            };
            let event = Event::ended(exec, known + 1, end, usage, ended.duration_ms);
            if !self.is_live {
                self.note_anyway(&event);
            } else if let Err(error) = self.note(&event) {
                tracing::warn!(sandbox = %self.shared.id, %error, "an end waits for the journal");
                return false;
            }
            self.forget_exec(exec);
            self.touch();
        }
        self.backlog.pop_front();
        self.acknowledge(exec, ended.seq);
        true
    }

    fn is_known(&self, exec: ExecId) -> bool {
        self.shared.history.read().exec(exec).is_some()
    }

    /// Hears no more on this link: what was said cannot be. Nothing of it is acknowledged.
    fn refuse(&mut self, why: &str) -> bool {
        self.backlog.clear();
        drop(self.link.refuse(why));
        self.drop_requests();
        true
    }

    fn acknowledge(&mut self, exec: ExecId, seq: u64) {
        self.link.send(To::ExecAck(ExecAck {
            exec_id: bytes::Bytes::copy_from_slice(&exec.bytes()),
            seq,
        }));
    }

    fn on_message(&mut self, message: Option<FromAgent>) {
        let Some(body) = message.and_then(|m| m.body) else {
            return;
        };
        match body {
            From::Hello(hello) => {
                self.reconcile_sessions(&hello.sessions);
                self.link.greet();
            }
            From::ExecStarted(started) => {
                if let Some(exec) = ExecId::from_slice(&started.exec_id) {
                    self.on_started(exec, started.pid, started.stdin_offset);
                }
            }
            From::ExecUnknown(unknown) => {
                if let Some(exec) = ExecId::from_slice(&unknown.exec_id) {
                    self.on_unknown(exec);
                }
            }
            From::ExecStdinAck(ack) => {
                if let Some(exec) = ExecId::from_slice(&ack.exec_id) {
                    self.on_stdin_ack(exec, ack.offset, ack.closed);
                }
            }
            From::SessionState(state) => {
                if let Some(session) = SessionId::from_slice(&state.session_id) {
                    self.on_session_state(session, &state);
                }
            }
            From::Response(response) => self.on_incoming(response.id, Incoming::Response(response)),
            From::Data(data) => self.on_incoming(data.id, Incoming::Data(data)),
            From::Credit(credit) => self.on_incoming(credit.id, Incoming::Credit(credit.bytes)),
            From::Watched(watched) => self.on_incoming(watched.id, Incoming::Watched(watched)),
            // Handled in order by `work_off_backlog`.
            From::ExecOutput(_) | From::ExecEnded(_) => {}
        }
    }
}

fn output_bytes(message: &FromAgent) -> usize {
    match &message.body {
        Some(From::ExecOutput(output)) => output.data.len(),
        _ => 0,
    }
}

fn is_answer(message: &FromAgent) -> bool {
    let body = message.body.as_ref();
    body.is_some_and(|body| {
        matches!(
            body,
            From::Response(_) | From::Data(_) | From::Credit(_) | From::Watched(_)
        )
    })
}

fn record(exec: ExecId, output: &ExecOutput) -> Record {
    Record::Output {
        exec,
        exec_seq: output.seq,
        stream: if output.stream == STDERR {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        data: output.data.clone(),
    }
}
