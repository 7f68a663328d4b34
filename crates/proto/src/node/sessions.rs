//! Stateful shells in sandboxes.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{ExecId, Result, SandboxId, SessionId};

use super::{ExecEvent, Map};

/// A session to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenSession {
    /// Its id.
    pub id: SessionId,
    /// The shell's path; `None`: bash, or sh.
    pub shell: Option<String>,
    /// Goes over the sandbox's environment.
    pub env: Map,
    /// Where it starts.
    pub cwd: Option<String>,
    /// As whom.
    pub user: Option<String>,
}

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Which.
    pub id: SessionId,
    /// The shell, as asked.
    pub shell: Option<String>,
    /// It runs.
    pub open: bool,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Stateful shells.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Opens one; more than [`skerry_types::limits::MAX_SESSIONS`] open: conflict.
    async fn open_session(&self, sandbox: SandboxId, request: OpenSession)
    -> Result<SessionRecord>;
    /// All of the sandbox, the ended ones too.
    async fn list_sessions(&self, sandbox: SandboxId) -> Result<Vec<SessionRecord>>;
    /// Ends one. One that has ended is fine.
    async fn close_session(&self, sandbox: SandboxId, session: SessionId) -> Result<SessionRecord>;
    /// Events of all its execs after `after_seq`, numbered through the session from 1; follows until it ends.
    async fn session_events(
        &self,
        sandbox: SandboxId,
        session: SessionId,
        after_seq: u64,
    ) -> Result<BoxStream<'static, Result<SessionEvent>>>;
    /// Input for what runs in it.
    async fn session_input(
        &self,
        sandbox: SandboxId,
        session: SessionId,
        data: Bytes,
    ) -> Result<()>;
}

/// An event of an exec in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    /// Its number in the session.
    pub seq: u64,
    /// Which exec.
    pub exec: ExecId,
    /// What, with its number in the exec.
    pub event: ExecEvent,
}
