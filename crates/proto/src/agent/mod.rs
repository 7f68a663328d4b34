//! agent.v1: what a node and the agent in a sandbox say to each other over one byte stream.
//!
//! The stream may break at any byte and be made anew; execs and sessions are known by id and output by number, so that
//! nothing is lost or doubled:
//!
//! * The agent numbers the events of an exec (each output chunk, then the end) from 1 without gaps and keeps every event until the node
//!   acknowledges it. It keeps at most [`WINDOW_BYTES`] of output per exec and stops reading the process's pipes beyond that, so a slow
//!   node slows the process and never costs memory.
//! * `ExecStart` and `SessionOpen` with an id the agent knows change nothing and are answered like the first time.
//! * After a new link the node sends `ExecAttach` for what it believes is open; the agent repeats what was not acknowledged, or answers
//!   `ExecUnknown`. The agent sends exec events only for execs started or attached on the current link.
//! * `ExecStdin` carries the offset of its first byte; bytes the agent already has are dropped.
//!
//! File work, and a signal, is request and response, with `Data` chunks under a credit window in the direction of the bulk. A request does not survive its
//! link: both sides drop it when the link breaks. So it is with the connections that `Dial` makes inside the sandbox.

pub(crate) mod bounds;
mod request;

use bytes::Bytes;

pub use request::*;

/// The protocol's generation. A node speaks with agents of its own and earlier generations.
pub const GENERATION: u32 = 1;
/// Output kept per exec until acknowledged.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// `Data` bytes that may be under way per request before a `Credit` is needed; both sides start with this much.
pub const CREDIT_BYTES: u32 = 256 * 1024;
/// Stdin bytes that may be under way beyond the last `ExecStdinAck`.
pub const STDIN_WINDOW_BYTES: u64 = 256 * 1024;
/// Which stream a chunk of output came from.
pub const STDOUT: u32 = 1;
/// See [`STDOUT`].
pub const STDERR: u32 = 2;

/// A message from the node to the agent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ToAgent {
    /// What it is; an agent ignores what it does not know.
    #[prost(oneof = "to_agent::Body", tags = "1,2,3,4,5,7,8,9,10,11,12,13,14")]
    pub body: Option<to_agent::Body>,
}

/// See [`ToAgent`].
pub mod to_agent {
    /// The kinds of message.
    #[derive(Clone, PartialEq, prost::Oneof)]
    #[expect(missing_docs, reason = "each message documents itself")]
    pub enum Body {
        #[prost(message, tag = "1")]
        Hello(super::NodeHello),
        #[prost(message, tag = "2")]
        ExecStart(super::ExecStart),
        #[prost(message, tag = "3")]
        ExecAttach(super::ExecAttach),
        #[prost(message, tag = "4")]
        ExecAck(super::ExecAck),
        #[prost(message, tag = "5")]
        ExecStdin(super::ExecStdin),
        #[prost(message, tag = "7")]
        ExecResize(super::ExecResize),
        #[prost(message, tag = "8")]
        SessionOpen(super::SessionOpen),
        #[prost(message, tag = "9")]
        SessionClose(super::SessionClose),
        #[prost(message, tag = "10")]
        Request(super::Request),
        #[prost(message, tag = "11")]
        Data(super::Data),
        #[prost(message, tag = "12")]
        Credit(super::Credit),
        #[prost(message, tag = "13")]
        Cancel(super::Cancel),
        #[prost(message, tag = "14")]
        Shutdown(super::Shutdown),
    }
}

/// A message from the agent to the node. Everything in it is data from a hostile place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromAgent {
    /// What it is; a node ignores what it does not know.
    #[prost(oneof = "from_agent::Body", tags = "1,2,3,4,5,6,7,8,9,10,11")]
    pub body: Option<from_agent::Body>,
}

/// See [`FromAgent`].
pub mod from_agent {
    /// The kinds of message.
    #[derive(Clone, PartialEq, prost::Oneof)]
    #[expect(missing_docs, reason = "each message documents itself")]
    pub enum Body {
        #[prost(message, tag = "1")]
        Hello(super::AgentHello),
        #[prost(message, tag = "2")]
        ExecStarted(super::ExecStarted),
        #[prost(message, tag = "3")]
        ExecOutput(super::ExecOutput),
        #[prost(message, tag = "4")]
        ExecEnded(super::ExecEnded),
        #[prost(message, tag = "5")]
        ExecUnknown(super::ExecUnknown),
        #[prost(message, tag = "6")]
        ExecStdinAck(super::ExecStdinAck),
        #[prost(message, tag = "7")]
        SessionState(super::SessionState),
        #[prost(message, tag = "8")]
        Response(super::Response),
        #[prost(message, tag = "9")]
        Data(super::Data),
        #[prost(message, tag = "10")]
        Credit(super::Credit),
        #[prost(message, tag = "11")]
        Watched(super::Watched),
    }
}

/// First message of the node on a link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeHello {
    /// The node's [`GENERATION`].
    #[prost(uint32, tag = "1")]
    pub generation: u32,
}

/// First message of the agent on a link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AgentHello {
    /// The agent's [`GENERATION`].
    #[prost(uint32, tag = "1")]
    pub generation: u32,
    /// The agent's version, for people.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Ids (16 bytes each) of the sessions that are open: on a new link the node learns which ended while there was none.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub sessions: Vec<Bytes>,
}

/// A variable of the environment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EnvVar {
    /// Its name.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// Its value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// Start a command. With `session_id` it runs in that session's shell, and `argv` is one script text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecStart {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// The program and its arguments; a program without a slash is looked up in `PATH`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub argv: Vec<Bytes>,
    /// The whole environment, already merged. The agent adds HOME, USER, LOGNAME, PATH and SHELL where they are missing.
    #[prost(message, repeated, tag = "3")]
    pub env: Vec<EnvVar>,
    /// Where it starts; empty: the user's home, or `/` if there is none.
    #[prost(bytes = "bytes", tag = "4")]
    pub cwd: Bytes,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the sandbox's own files; empty: uid 0.
    #[prost(string, tag = "5")]
    pub user: String,
    /// Give it a terminal of this size: one stream (stdout), stdin always open.
    #[prost(message, optional, tag = "6")]
    pub tty: Option<TtySize>,
    /// Keep stdin open for `ExecStdin`; otherwise stdin is empty.
    #[prost(bool, tag = "7")]
    pub stdin: bool,
    /// After this many milliseconds TERM to the whole group, then `kill_grace_ms` later KILL; 0: no limit.
    #[prost(uint64, tag = "8")]
    pub timeout_ms: u64,
    /// From TERM to KILL.
    #[prost(uint64, tag = "9")]
    pub kill_grace_ms: u64,
    /// 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "10")]
    pub session_id: Bytes,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct TtySize {
    /// Width.
    #[prost(uint32, tag = "1")]
    pub cols: u32,
    /// Height.
    #[prost(uint32, tag = "2")]
    pub rows: u32,
}

/// Send the events of this exec on this link, from the one after `after_seq`; those up to it are acknowledged by this.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecAttach {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// The last event the node has.
    #[prost(uint64, tag = "2")]
    pub after_seq: u64,
}

/// The node has every event up to this one; the agent may forget them, and the exec itself once its end is acknowledged.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecAck {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// The last event the node has.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// Bytes for an exec's stdin.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecStdin {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// Position of the first byte in all of stdin.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// The bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
    /// Nothing comes after these.
    #[prost(bool, tag = "4")]
    pub eof: bool,
}

/// Give the exec's terminal a new size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecResize {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// The new size.
    #[prost(message, required, tag = "2")]
    pub size: TtySize,
}

/// Open a stateful shell. Answered by `SessionState`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionOpen {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub session_id: Bytes,
    /// The shell's path; empty: `/bin/bash` if it is there, else `/bin/sh`.
    #[prost(bytes = "bytes", tag = "2")]
    pub shell: Bytes,
    /// The whole environment, already merged.
    #[prost(message, repeated, tag = "3")]
    pub env: Vec<EnvVar>,
    /// Where it starts; empty: the user's home.
    #[prost(bytes = "bytes", tag = "4")]
    pub cwd: Bytes,
    /// As in [`ExecStart`].
    #[prost(string, tag = "5")]
    pub user: String,
}

/// End a session: HUP to the shell and what it runs, KILL after the grace. Answered by `SessionState`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionClose {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub session_id: Bytes,
    /// From HUP to KILL.
    #[prost(uint64, tag = "2")]
    pub kill_grace_ms: u64,
}

/// End everything: TERM to all, KILL after the grace, then the agent exits and the sandbox with it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Shutdown {
    /// From TERM to KILL.
    #[prost(uint64, tag = "1")]
    pub kill_grace_ms: u64,
}

/// The exec runs, or ran.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecStarted {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// Its process in the sandbox; 0 if it never ran.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// Stdin bytes the agent has.
    #[prost(uint64, tag = "3")]
    pub stdin_offset: u64,
}

/// A chunk of output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecOutput {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// This event's number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// [`STDOUT`] or [`STDERR`].
    #[prost(uint32, tag = "3")]
    pub stream: u32,
    /// At most [`crate::frame::CHUNK_BYTES`] bytes, as the process wrote them.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// The exec is over, and all its output was sent before.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecEnded {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// This event's number: the last.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// How.
    #[prost(oneof = "Ended", tags = "3,4,5,6")]
    pub ended: Option<Ended>,
    /// Processor time of the process and the children it waited for.
    #[prost(uint64, tag = "7")]
    pub cpu_ms: u64,
    /// Largest resident size of any one of them; 0 if unknown.
    #[prost(uint64, tag = "8")]
    pub peak_memory_bytes: u64,
    /// From start to end.
    #[prost(uint64, tag = "9")]
    pub duration_ms: u64,
}

/// How a process ended, as far as the agent can see.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Ended {
    /// It returned this code.
    #[prost(int32, tag = "3")]
    Code(i32),
    /// This signal killed it.
    #[prost(int32, tag = "4")]
    Signal(i32),
    /// It ran into its timeout.
    #[prost(bool, tag = "5")]
    TimedOut(bool),
    /// It never ran, and why.
    #[prost(string, tag = "6")]
    FailedToStart(String),
}

/// The agent knows no such exec: it never started, or its end was acknowledged.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecUnknown {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
}

/// The process's stdin took everything before this offset.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecStdinAck {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// Bytes taken since the start.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Nobody reads it any more: further bytes are dropped.
    #[prost(bool, tag = "3")]
    pub closed: bool,
}

/// A session opened, could not open, or ended (by itself too: `exit`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionState {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub session_id: Bytes,
    /// It is open.
    #[prost(bool, tag = "2")]
    pub open: bool,
    /// Why it could not open; empty otherwise.
    #[prost(string, tag = "3")]
    pub error: String,
}
