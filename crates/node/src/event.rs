//! The events of a journal and their data. Env values never stand in one: names only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use skerry_driver::Step;
use skerry_journal::Record;
use skerry_proto::node::{Command, SandboxFacts};
use skerry_types::{
    Egress, ExecEnd, ExecId, FailureReason, SandboxId, SessionId, SnapshotId, Usage,
};

/// Everything but output. Types are only added; data only grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
#[expect(
    missing_docs,
    reason = "docs/events.md describes each type and its data"
)]
pub enum Event {
    #[serde(rename = "sandbox.created")]
    SandboxCreated {
        image: String,
        image_digest: String,
        env_names: Vec<String>,
        forked_from: Option<SandboxId>,
        /// The parent's last event that the child has.
        forked_at_seq: Option<u64>,
        /// What it was made from instead of its image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot_id: Option<SnapshotId>,
    },
    #[serde(rename = "sandbox.ready")]
    SandboxReady {
        boot_us: u64,
        facts: SandboxFacts,
        /// Where the time went.
        #[serde(default)]
        steps: Vec<BootStep>,
    },
    /// Again, after it had ended; `sandbox.ready` follows.
    #[serde(rename = "sandbox.started")]
    SandboxStarted {},
    /// It could not be started again, and is as it had ended.
    #[serde(rename = "sandbox.start_failed")]
    SandboxStartFailed { message: String },
    #[serde(rename = "sandbox.forked")]
    SandboxForked { fork_sandbox_id: SandboxId },
    #[serde(rename = "sandbox.snapshot")]
    SandboxSnapshot {
        snapshot_id: SnapshotId,
        memory: bool,
        held_us: u64,
        /// Where the time went.
        #[serde(default)]
        steps: Vec<BootStep>,
    },
    #[serde(rename = "sandbox.rolled_back")]
    SandboxRolledBack { snapshot_id: SnapshotId },
    #[serde(rename = "sandbox.paused")]
    SandboxPaused {},
    #[serde(rename = "sandbox.resumed")]
    SandboxResumed {},
    #[serde(rename = "sandbox.stopping")]
    SandboxStopping { reason: FailureReason },
    #[serde(rename = "sandbox.stopped")]
    SandboxStopped {
        reason: FailureReason,
        total_duration_ms: u64,
    },
    #[serde(rename = "sandbox.failed")]
    SandboxFailed {
        failure_reason: FailureReason,
        message: String,
    },
    #[serde(rename = "sandbox.ttl_warning")]
    SandboxTtlWarning { seconds_remaining: u64 },
    #[serde(rename = "sandbox.deleted")]
    SandboxDeleted {},
    #[serde(rename = "exec.started")]
    ExecStarted {
        exec_id: ExecId,
        number: u64,
        cmd: Command,
        cwd: Option<String>,
        user: Option<String>,
        env_names: Vec<String>,
        session_id: Option<SessionId>,
        tty: bool,
        timeout_ms: Option<u64>,
        /// It came with a copy of memory: the events up to this one stand in the record of the sandbox that was copied.
        #[serde(default, skip_serializing_if = "is_zero")]
        after_seq: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
    },
    #[serde(rename = "exec.completed")]
    ExecCompleted(ExecEnded),
    #[serde(rename = "exec.failed")]
    ExecFailed(ExecEnded),
    #[serde(rename = "session.created")]
    SessionCreated {
        session_id: SessionId,
        shell: Option<String>,
    },
    #[serde(rename = "session.destroyed")]
    SessionDestroyed { session_id: SessionId },
    #[serde(rename = "file.written")]
    FileWritten { path: String, size_bytes: u64 },
    #[serde(rename = "file.moved")]
    FileMoved { from: String, to: String },
    #[serde(rename = "file.deleted")]
    FileDeleted { path: String },
    #[serde(rename = "egress.changed")]
    EgressChanged {
        allow: Vec<String>,
        deny: Vec<String>,
    },
    #[serde(rename = "egress.refused")]
    EgressRefused { destination: String, reason: String },
}

/// A step of making or keeping a sandbox; one whose name begins with `·` is part of the step above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootStep {
    /// Its name.
    pub name: String,
    /// How long it took, in microseconds.
    pub us: u64,
}

impl From<&Step> for BootStep {
    fn from(step: &Step) -> Self {
        Self {
            name: step.name.clone(),
            us: step.took.as_micros() as u64,
        }
    }
}

/// The end of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnded {
    /// Which.
    pub exec_id: ExecId,
    /// Its number among the exec's events: the last.
    pub exec_seq: u64,
    /// How.
    pub end: ExecEnd,
    /// As a shell would show it.
    pub exit_code: Option<i32>,
    /// From start to end.
    pub duration_ms: u64,
    /// What it used.
    pub resource_usage: Usage,
}

impl Event {
    /// Where the sandbox may connect from now on.
    pub(crate) fn egress_changed(egress: &Egress) -> Self {
        Self::EgressChanged {
            allow: egress.allow(),
            deny: egress.deny(),
        }
    }

    /// The end of an exec, under the type that fits it.
    pub(crate) fn ended(
        exec_id: ExecId,
        exec_seq: u64,
        end: ExecEnd,
        resource_usage: Usage,
        duration_ms: u64,
    ) -> Self {
        let exit_code = end.exit_code();
        let done = end.status() == skerry_types::ExecStatus::Done;
        let ended = ExecEnded {
            exec_id,
            exec_seq,
            end,
            exit_code,
            duration_ms,
            resource_usage,
        };
        if done {
            Self::ExecCompleted(ended)
        } else {
            Self::ExecFailed(ended)
        }
    }

    fn exec(&self) -> Option<ExecId> {
        match self {
            Self::ExecStarted { exec_id, .. } => Some(*exec_id),
            Self::ExecCompleted(ended) | Self::ExecFailed(ended) => Some(ended.exec_id),
            _ => None,
        }
    }

    /// As it stands in the journal.
    pub(crate) fn record(&self) -> Record {
        let exec = self.exec();
        let mut value = serde_json::to_value(self).unwrap_or_default();
        Record::Event {
            kind: value["type"].as_str().unwrap_or_default().to_owned(),
            data: value["data"].take(),
            exec,
        }
    }

    /// From what stands in the journal; `None` for a type of a later version.
    pub(crate) fn parse(kind: &str, data: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(json!({ "type": kind, "data": data })).ok()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Milliseconds between two times, never negative.
pub(crate) fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from((to.as_millisecond() - from.as_millisecond()).max(0)).unwrap_or_default()
}
