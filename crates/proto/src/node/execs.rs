//! Commands in sandboxes.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{ExecEnd, ExecId, ExecStatus, Result, SandboxId, SessionId, Usage};

use super::Map;

/// A command to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartExec {
    /// Its id.
    pub id: ExecId,
    /// What to run.
    pub command: Command,
    /// Where; `None`: the image's working directory, or the user's home.
    pub cwd: Option<String>,
    /// Goes over the sandbox's environment.
    pub env: Map,
    /// As whom; `None`: the image's user.
    pub user: Option<String>,
    /// Keep stdin open.
    pub stdin: bool,
    /// Give it a terminal of this size.
    pub tty: Option<TtySize>,
    /// TERM after this long; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Run it in this session.
    pub session: Option<SessionId>,
    /// A name to find it by; several may have the same.
    #[serde(default)]
    pub tag: Option<String>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// A script for the shell.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Width.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}

/// What is known of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    /// Which.
    pub id: ExecId,
    /// Its number in the sandbox, from 1.
    pub number: u64,
    /// What runs.
    pub command: Command,
    /// Where, as asked.
    pub cwd: Option<String>,
    /// As whom.
    pub user: Option<String>,
    /// In which session.
    pub session: Option<SessionId>,
    /// It has a terminal.
    pub tty: bool,
    /// Its time limit.
    pub timeout: Option<Duration>,
    /// Its process in the sandbox, once started.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub status: ExecStatus,
    /// How it ended.
    pub end: Option<ExecEnd>,
    /// What it used.
    pub usage: Option<Usage>,
    /// From start to end.
    pub duration_ms: Option<u64>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Bytes of stdout so far.
    pub stdout_bytes: u64,
    /// Bytes of stderr so far.
    pub stderr_bytes: u64,
    /// The number of its last event so far; 0: none.
    #[serde(default)]
    pub last_seq: u64,
    /// What it was tagged with.
    #[serde(default)]
    pub tag: Option<String>,
}

/// How to find an exec whose id is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecName {
    /// By its process in the sandbox.
    Pid(u32),
    /// By what it was tagged with.
    Tag(String),
}

impl fmt::Display for ExecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "pid {pid}"),
            Self::Tag(tag) => write!(f, "tag `{tag}`"),
        }
    }
}

/// An event of one exec, numbered from 1 without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecEvent {
    /// Its number.
    pub seq: u64,
    /// When the node had it.
    pub at: Timestamp,
    /// What.
    pub body: ExecEventBody,
}

/// See [`ExecEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEventBody {
    /// Bytes on stdout, or from the terminal.
    Stdout(Bytes),
    /// Bytes on stderr.
    Stderr(Bytes),
    /// The last event.
    End {
        /// How.
        end: ExecEnd,
        /// What it used.
        usage: Usage,
        /// From start to end.
        duration_ms: u64,
    },
}

/// Which execs to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecFilter {
    /// Only with this status.
    pub status: Option<ExecStatus>,
    /// Only in this session.
    pub session: Option<SessionId>,
    /// Only with this tag.
    #[serde(default)]
    pub tag: Option<String>,
    /// Only with a number above this one.
    pub after_number: u64,
    /// At most this many.
    pub limit: usize,
}

/// Commands in sandboxes. Reading works as long as the journal is kept, also after the sandbox ended or was deleted.
#[async_trait]
pub trait Execs: Send + Sync {
    /// Starts one. Returns when it is recorded and on its way; the same id again returns what is known of it.
    async fn start_exec(&self, sandbox: SandboxId, request: StartExec) -> Result<ExecRecord>;
    /// What is known of it.
    async fn get_exec(&self, sandbox: SandboxId, exec: ExecId) -> Result<ExecRecord>;
    /// The same once it has a process, or has ended.
    async fn await_exec(&self, sandbox: SandboxId, exec: ExecId) -> Result<ExecRecord>;
    /// The latest with this name; one that runs goes before one that has ended. The process of one that ended is forgotten when the node starts anew.
    async fn find_exec(&self, sandbox: SandboxId, name: &ExecName) -> Result<ExecRecord>;
    /// Several, by number.
    async fn list_execs(&self, sandbox: SandboxId, filter: ExecFilter) -> Result<Vec<ExecRecord>>;
    /// Its events after `after_seq`; with `follow` until its end, otherwise what there is now.
    async fn exec_events(
        &self,
        sandbox: SandboxId,
        exec: ExecId,
        after_seq: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<ExecEvent>>>;
    /// Gives it input; returns when the agent took it. `eof`: nothing comes after.
    async fn exec_stdin(
        &self,
        sandbox: SandboxId,
        exec: ExecId,
        data: Bytes,
        eof: bool,
    ) -> Result<()>;
    /// Sends a signal to its process group.
    async fn exec_signal(&self, sandbox: SandboxId, exec: ExecId, signal: i32) -> Result<()>;
    /// Gives its terminal a new size.
    async fn exec_resize(&self, sandbox: SandboxId, exec: ExecId, size: TtySize) -> Result<()>;
    /// What runs in the sandbox.
    async fn list_processes(&self, sandbox: SandboxId) -> Result<Vec<ProcessInfo>>;
}

/// A running program in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its number in the sandbox.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its command line.
    pub argv: Vec<String>,
}
