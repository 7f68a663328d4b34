//! What a journal says happened: a fold over its entries. The actor keeps one while the sandbox lives; for an ended sandbox it is read anew.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use skerry_journal::{Entry, Journal, JournalError, Record, Stream};
use skerry_proto::node::{
    Command, ExecFilter, ExecName, ExecRecord, START_TAG, SandboxFacts, SessionRecord,
};
use skerry_types::{ExecId, ExecStatus, FailureReason, SandboxState, SessionId};

use crate::event::{Event, ExecEnded};

/// See the module.
#[derive(Debug, Clone)]
pub struct History {
    pub(crate) state: SandboxState,
    pub(crate) reason: Option<FailureReason>,
    pub(crate) message: Option<String>,
    pub(crate) facts: Option<SandboxFacts>,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) boot_us: Option<u64>,
    /// How often it was put back to a snapshot.
    pub(crate) roll_backs: u64,
    /// By number, which starts at 1.
    execs: Vec<ExecRecord>,
    /// Of all their commands.
    command_bytes: u64,
    exec_numbers: HashMap<ExecId, u64>,
    pub(crate) sessions: Vec<SessionRecord>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            state: SandboxState::Provisioning,
            reason: None,
            message: None,
            facts: None,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            ended_at: None,
            boot_us: None,
            roll_backs: 0,
            execs: Vec::new(),
            command_bytes: 0,
            exec_numbers: HashMap::new(),
            sessions: Vec::new(),
        }
    }
}

impl History {
    /// Reads a whole journal.
    pub(crate) fn read(journal: &std::sync::Arc<Journal>) -> Result<Self, JournalError> {
        let (mut history, mut reader) = (Self::default(), journal.reader(0));
        loop {
            let batch = reader.next_batch()?;
            if batch.is_empty() {
                return Ok(history);
            }
            for entry in &batch {
                history.apply(entry);
            }
        }
    }

    /// Takes in the next entry.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        match &entry.record {
            Record::Output {
                exec,
                exec_seq,
                stream,
                data,
            } => self.output(*exec, *exec_seq, *stream, data.len()),
            Record::Event { kind, data, .. } => {
                if let Some(event) = Event::parse(kind, data) {
                    self.event(&event, entry.at);
                }
            }
        }
    }

    pub(crate) fn output(&mut self, exec: ExecId, exec_seq: u64, stream: Stream, bytes: usize) {
        if let Some(record) = self.exec_mut(exec) {
            record.last_seq = exec_seq;
            match stream {
                Stream::Stdout => record.stdout_bytes += bytes as u64,
                Stream::Stderr => record.stderr_bytes += bytes as u64,
            }
        }
    }

    pub(crate) fn event(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::ExecStarted { .. } => self.exec_started(event, at),
            Event::ExecCompleted(ended) | Event::ExecFailed(ended) => self.exec_ended(ended, at),
            Event::SessionCreated { session_id, shell } => self.sessions.push(SessionRecord {
                id: *session_id,
                shell: shell.clone(),
                open: true,
                created_at: at,
                ended_at: None,
            }),
            Event::SessionDestroyed { session_id } => {
                if let Some(session) = self.sessions.iter_mut().find(|s| s.id == *session_id) {
                    session.open = false;
                    session.ended_at = Some(at);
                }
            }
            _ => self.life(event, at),
        }
    }

    fn life(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::SandboxCreated { .. } => self.created_at = at,
            Event::SandboxReady { boot_us, facts, .. } => {
                self.state = SandboxState::Running;
                // Of its end before, if it was started again.
                (self.reason, self.message, self.ended_at) = (None, None, None);
                self.facts = Some(facts.clone());
                self.started_at = Some(at);
                self.boot_us = Some(*boot_us);
            }
            Event::SandboxRolledBack { .. } => self.roll_backs += 1,
            Event::SandboxPaused {} => self.state = SandboxState::Paused,
            Event::SandboxResumed {} => self.state = SandboxState::Running,
            Event::SandboxStopping { reason } => {
                self.state = SandboxState::Stopping;
                self.reason = Some(*reason);
            }
            Event::SandboxStopped { reason, .. } => {
                self.state = SandboxState::Stopped;
                self.reason = Some(*reason);
                self.ended_at = Some(at);
            }
            Event::SandboxFailed {
                failure_reason,
                message,
            } => {
                self.state = SandboxState::Failed;
                self.reason = Some(*failure_reason);
                self.message = Some(message.clone());
                self.ended_at = Some(at);
            }
            Event::SandboxDeleted {} => {
                self.state = SandboxState::Deleted;
                self.ended_at = self.ended_at.or(Some(at));
            }
            _ => {}
        }
    }

    fn exec_started(&mut self, event: &Event, at: Timestamp) {
        let Event::ExecStarted {
            exec_id,
            number,
            cmd,
            cwd,
            user,
            session_id,
            tty,
            timeout_ms,
            after_seq,
            tag,
            ..
        } = event
        else {
            return;
        };
        self.exec_numbers.insert(*exec_id, *number);
        self.command_bytes += match cmd {
            Command::Shell(script) => script.len() as u64,
            Command::Argv(argv) => argv.iter().map(|arg| arg.len() as u64).sum(),
        };
        self.execs.push(ExecRecord {
            id: *exec_id,
            number: *number,
            command: cmd.clone(),
            cwd: cwd.clone(),
            user: user.clone(),
            session: *session_id,
            tty: *tty,
            timeout: timeout_ms.map(Duration::from_millis),
            pid: None,
            status: ExecStatus::Queued,
            end: None,
            usage: None,
            duration_ms: None,
            created_at: at,
            ended_at: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            last_seq: *after_seq,
            tag: tag.clone(),
        });
    }

    fn exec_ended(&mut self, ended: &ExecEnded, at: Timestamp) {
        if let Some(record) = self.exec_mut(ended.exec_id) {
            record.last_seq = ended.exec_seq;
            record.status = ended.end.status();
            record.end = Some(ended.end.clone());
            record.usage = Some(ended.resource_usage);
            record.duration_ms = Some(ended.duration_ms);
            record.ended_at = Some(at);
        }
    }

    /// The exec's process is there. Not in the journal: a pid means nothing after the sandbox.
    pub(crate) fn exec_running(&mut self, exec: ExecId, pid: u32) {
        if let Some(record) = self.exec_mut(exec)
            && record.end.is_none()
        {
            record.status = ExecStatus::Running;
            record.pid = (pid != 0).then_some(pid);
        }
    }

    fn exec_mut(&mut self, exec: ExecId) -> Option<&mut ExecRecord> {
        let number = *self.exec_numbers.get(&exec)?;
        self.execs.get_mut(usize::try_from(number).ok()? - 1)
    }

    pub(crate) fn exec(&self, exec: ExecId) -> Option<&ExecRecord> {
        let number = *self.exec_numbers.get(&exec)?;
        self.execs.get(usize::try_from(number).ok()? - 1)
    }

    pub(crate) fn exec_count(&self) -> u64 {
        self.execs.len() as u64
    }

    /// Bytes of all commands.
    pub(crate) fn command_bytes(&self) -> u64 {
        self.command_bytes
    }

    /// The last event number of an exec, 0 for none.
    pub(crate) fn exec_seq(&self, exec: ExecId) -> u64 {
        self.exec(exec).map_or(0, |record| record.last_seq)
    }

    /// The latest with this name, one that runs before one that has ended.
    pub(crate) fn find_exec(&self, name: &ExecName) -> Option<&ExecRecord> {
        let named = |record: &&ExecRecord| match name {
            ExecName::Pid(pid) => record.pid == Some(*pid),
            ExecName::Tag(tag) => record.tag.as_ref() == Some(tag),
        };
        let mut found = self.execs.iter().rev().filter(named);
        let latest = found.next()?;
        let running = latest
            .end
            .is_some()
            .then(|| found.find(|e| e.end.is_none()));
        running.flatten().or(Some(latest))
    }

    /// Execs without an end.
    pub(crate) fn open_execs(&self) -> impl Iterator<Item = &ExecRecord> {
        self.execs.iter().filter(|e| e.end.is_none())
    }

    /// A command runs. A terminal is not work by itself: somebody may have left it open. Nor is a program that always runs.
    pub(crate) fn is_working(&self) -> bool {
        self.open_execs()
            .any(|e| !e.tty && e.tag.as_deref() != Some(START_TAG))
    }

    /// Execs by number.
    pub(crate) fn select_execs(&self, filter: &ExecFilter) -> Vec<ExecRecord> {
        let from = usize::try_from(filter.after_number).unwrap_or(usize::MAX);
        self.execs
            .iter()
            .skip(from)
            .filter(|e| filter.status.is_none_or(|s| e.status == s))
            .filter(|e| filter.session.is_none_or(|s| e.session == Some(s)))
            .filter(|e| filter.tag.is_none() || filter.tag == e.tag)
            .take(filter.limit)
            .cloned()
            .collect()
    }

    pub(crate) fn session(&self, session: SessionId) -> Option<&SessionRecord> {
        self.sessions.iter().find(|s| s.id == session)
    }
}
