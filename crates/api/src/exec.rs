//! Commands, their output and their ends.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{ExecEnd, ExecId, ExecStatus, SessionId};
use utoipa::ToSchema;

use crate::Map;

/// What to run: a text is a script for the shell, a list is a program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "must be a text for the shell, or a list of a program and its arguments"
)]
pub enum Command {
    /// A script for the shell.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

/// Runs a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunExec {
    /// What to run.
    pub cmd: Command,
    /// Arguments after `cmd`, which is then the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Where; the image's working directory unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Goes over the sandbox's environment.
    #[serde(default)]
    pub env: Map,
    /// As whom; the image's user unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Keep stdin open for input; with `wait: false` only.
    #[serde(default)]
    pub stdin: bool,
    /// 300 unless given; with `wait` at most 300, otherwise at most 7200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Answer when it ended (`true`, the default) or at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
    /// A name to find it by, of at most 256 bytes; several may have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// Starts a program on a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenPty {
    /// What to run; the user's shell unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Command>,
    /// Where; the image's working directory unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Goes over the sandbox's environment.
    pub env: Map,
    /// As whom; the image's user unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Width in characters; 80 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    /// Height in characters; 24 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Width.
    pub cols: u16,
    /// Height.
    pub rows: u16,
}

/// What an exec used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceUsage {
    /// Processor time of the whole process tree.
    pub cpu_ms: u64,
    /// Largest resident size of any one process of it; `null` where nobody measured it, as in a session.
    pub peak_memory_bytes: Option<u64>,
}

/// What is known of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exec {
    /// Which.
    #[schema(schema_with = crate::schema::exec_id)]
    pub exec_id: ExecId,
    /// Its number in the sandbox, from 1.
    pub number: u64,
    /// What runs.
    pub cmd: Command,
    /// Where, as asked.
    pub cwd: Option<String>,
    /// As whom, as asked.
    pub user: Option<String>,
    /// In which session.
    #[schema(schema_with = crate::schema::session_id)]
    pub session_id: Option<SessionId>,
    /// It has a terminal.
    pub tty: bool,
    /// Its time limit.
    pub timeout_seconds: Option<u64>,
    /// What it was tagged with.
    #[serde(default)]
    pub tag: Option<String>,
    /// Its process in the sandbox, once started.
    pub pid: Option<u32>,
    /// Where it is in its life.
    #[schema(schema_with = crate::schema::exec_status)]
    pub status: ExecStatus,
    /// How it ended.
    #[schema(schema_with = crate::schema::exec_end)]
    pub end: Option<ExecEnd>,
    /// As a shell would show the end, where there is a code.
    pub exit_code: Option<i32>,
    /// What it used.
    pub resource_usage: Option<ResourceUsage>,
    /// From start to end.
    pub duration_ms: Option<u64>,
    /// Bytes of stdout so far.
    pub stdout_bytes: u64,
    /// Bytes of stderr so far.
    pub stderr_bytes: u64,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A page of execs, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecPage {
    /// The execs.
    pub execs: Vec<Exec>,
    /// Where the next page starts; `null`: this was the last.
    pub next_cursor: Option<String>,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Encoding {
    /// As they are.
    #[serde(rename = "utf-8")]
    Utf8,
    /// In base64, because they are no text.
    #[serde(rename = "base64")]
    Base64,
}

/// An exec that ended, with what it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// Which.
    #[schema(schema_with = crate::schema::exec_id)]
    pub exec_id: ExecId,
    /// `done`, `failed` or `timed_out`; a non-zero code is still done.
    #[schema(schema_with = crate::schema::exec_status)]
    pub status: ExecStatus,
    /// As a shell would show the end, where there is a code.
    pub exit_code: Option<i32>,
    /// How it ended.
    #[schema(schema_with = crate::schema::exec_end)]
    pub end: ExecEnd,
    /// At most 1 MiB; the log has all.
    pub stdout: String,
    /// At most 1 MiB; the log has all.
    pub stderr: String,
    /// There was more on stdout.
    pub stdout_truncated: bool,
    /// There was more on stderr.
    pub stderr_truncated: bool,
    /// Of both `stdout` and `stderr`.
    pub encoding: Encoding,
    /// From start to end.
    pub duration_ms: u64,
    /// What it used.
    pub resource_usage: ResourceUsage,
}

/// An event of an exec or a session, as the data of a server-sent event or a text message of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamEvent {
    /// Its number in the stream, from 1 without gaps.
    pub seq: u64,
    /// `stdout`, `stderr` or `exit`.
    pub t: String,
    /// In a session: which exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::schema::exec_id)]
    pub exec_id: Option<ExecId>,
    /// Output that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Output that is not text, such as a chunk that ends inside a character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// `base64` beside `data_base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Of `exit`: as a shell would show it, where there is a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Of `exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::schema::exec_status)]
    pub status: Option<ExecStatus>,
    /// Of `exit`: how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::schema::exec_end)]
    pub end: Option<ExecEnd>,
    /// Of `exit`: from start to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Of `exit`: what it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_usage: Option<ResourceUsage>,
}

/// A text message of the client on a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "t", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Input: one of the two.
    Stdin {
        /// Text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<String>,
        /// Any bytes, in base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_base64: Option<String>,
    },
    /// No more input.
    Close,
    /// Send a signal to the process group.
    Signal {
        /// Which.
        signal: Signal,
    },
    /// Give the terminal a new size.
    Resize {
        /// Width.
        cols: u16,
        /// Height.
        rows: u16,
    },
}

/// A signal: its number, or its name with or without `SIG`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be a signal's number or name")]
pub enum Signal {
    /// Its number.
    Number(i32),
    /// Its name.
    Name(String),
}

/// Sends a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendSignal {
    /// Which.
    pub signal: Signal,
}

/// A running program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Its number in the sandbox.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its command line.
    pub argv: Vec<String>,
}

/// What runs in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessList {
    /// The programs.
    pub processes: Vec<Process>,
}
