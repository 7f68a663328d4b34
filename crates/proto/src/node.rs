//! node.v1: what control, and the HTTP edge, ask of a node.
//!
//! In all-in-one the node is called through these traits directly; over a network an RPC client implements them. Every request names its sandbox;
//! which tenant may name it was decided before.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::{
    ExecEnd, ExecId, ExecStatus, FailureReason, Resources, Result, SandboxId, SandboxState,
    SessionId, SnapshotId, Usage,
};

/// A node: sandboxes, what runs in them, their files, their records.
pub trait Node: Sandboxes + Snapshots + Execs + Sessions + Files + Ports + Events + Health {}
impl<T: Sandboxes + Snapshots + Execs + Sessions + Files + Ports + Events + Health> Node for T {}

/// A stream of bytes that may break.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Names and values.
pub type Map = BTreeMap<String, String>;

/// A sandbox to make on a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateSandbox {
    /// Its id.
    pub id: SandboxId,
    /// What it starts from, as the caller wrote it.
    pub image: String,
    /// What it may use at most.
    pub resources: Resources,
    /// The environment of everything that runs in it.
    pub env: Map,
    /// `restricted`, `root`, or the image's own default.
    pub privilege: Option<String>,
    /// `none` or `nat`.
    pub network: String,
    /// The driver wanted; `None`: the node chooses.
    pub driver: Option<String>,
    /// Its name, used as host name where it is one.
    pub name: Option<String>,
    /// Paused, it wakes up when it is used.
    #[serde(default)]
    pub auto_resume: bool,
    /// Made from this snapshot: image, driver, privilege and, with memory, resources are the snapshot's.
    #[serde(default)]
    pub snapshot: Option<SnapshotId>,
}

/// Whether memory and processes are taken along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryWish {
    /// Where the driver can.
    #[default]
    Auto,
    /// Or nothing is done.
    Required,
    /// Files only.
    None,
}

/// A sandbox to fork on its parent's node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForkSandbox {
    /// The running parent.
    pub parent: SandboxId,
    /// The child's id.
    pub id: SandboxId,
    /// Goes over the parent's environment.
    pub env: Map,
    /// The child's name.
    pub name: Option<String>,
    /// Whether the child goes on with the parent's processes.
    #[serde(default)]
    pub memory: MemoryWish,
    /// This snapshot of the parent is forked, with what it has, and not the parent as it is now.
    #[serde(default)]
    pub base: Option<SnapshotId>,
}

/// A snapshot to take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeSnapshot {
    /// The running sandbox.
    pub sandbox: SandboxId,
    /// The snapshot's id.
    pub id: SnapshotId,
    /// Whether its processes are kept.
    pub memory: MemoryWish,
    /// What commands start with in what is made from it; `None`: the same as in this sandbox.
    #[serde(default)]
    pub defaults: Option<Defaults>,
}

/// What commands in a sandbox start with unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// The environment.
    pub env: Map,
    /// Where, an absolute path.
    pub workdir: String,
    /// As whom; empty: whoever is there.
    pub user: String,
    /// What runs in it from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// A program that runs in a sandbox from the start, as a script for the shell. It goes on with memory; without, it is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Runs on and on.
    pub command: String,
    /// Succeeds once that is ready.
    pub ready: String,
}

/// The tag of that program. That it runs does not keep its sandbox awake.
pub const START_TAG: &str = "skerry.start";

/// What a node says of one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Which.
    pub id: SnapshotId,
    /// What it was taken of.
    pub sandbox: SandboxId,
    /// The image of that sandbox.
    pub image: String,
    /// Its driver: only this one can restore it.
    pub driver: String,
    /// What the sandbox could use; with memory, also what is made from it.
    pub resources: Resources,
    /// It has memory and processes.
    pub memory: bool,
    /// What it takes on disk, as far as the storage can say.
    pub bytes: u64,
    /// For how long the sandbox stood still, in microseconds.
    pub held_us: u64,
    /// When it was taken.
    pub created_at: Timestamp,
}

/// Sandboxes frozen to disk.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Takes one; the sandbox runs on.
    async fn take_snapshot(&self, request: TakeSnapshot) -> Result<SnapshotReport>;
    /// All on this node.
    async fn list_snapshots(&self) -> Result<Vec<SnapshotReport>>;
    /// Removes one, once nobody is making anything from it; what was made from it lives on. One that is not there is fine.
    async fn remove_snapshot(&self, id: SnapshotId) -> Result<()>;
    /// Puts a running or paused sandbox back to one of its snapshots: its files, and with memory its processes, are those of then. It runs afterwards.
    async fn roll_back(&self, sandbox: SandboxId, to: SnapshotId) -> Result<SandboxReport>;
}

/// What a node says of one of its sandboxes. The node is the only one who knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxReport {
    /// Which.
    pub id: SandboxId,
    /// Its state now.
    pub state: SandboxState,
    /// Why it failed, or why it was stopped without being asked.
    pub reason: Option<FailureReason>,
    /// The same for a person.
    pub message: Option<String>,
    /// What it really is, once it was made.
    pub facts: Option<SandboxFacts>,
    /// When it started to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When something last used it.
    pub last_active_at: Timestamp,
    /// How long making it took, in microseconds.
    pub boot_us: Option<u64>,
}

/// What a sandbox really is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxFacts {
    /// ns, gvisor, vm, docker, fly or sim.
    pub driver: String,
    /// namespace, `application_kernel`, vm, remote or none.
    pub isolation: String,
    /// What runs a guest's instructions: kvm or tcg. Nothing where there is no guest.
    pub accelerator: Option<String>,
    /// restricted or root.
    pub privilege: String,
    /// btrfs, reflink, copy …
    pub storage: String,
    /// The disk limit binds.
    pub disk_quota: bool,
    /// The memory, CPU and process limits bind.
    pub limits: bool,
    /// Digest of the image.
    pub image_digest: String,
    /// How a fork was made: `files`, or `files+memory`.
    pub fork: Option<String>,
}

/// What a sandbox uses now; units as in the REST API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStats {
    /// Processor time since its start.
    pub cpu_us: u64,
    /// Memory now.
    pub memory_bytes: u64,
    /// The most it used.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// What it wrote and still has.
    pub disk_bytes: u64,
    /// Times the kernel killed one of its processes for lack of memory.
    pub oom_kills: u64,
}

/// Lives of sandboxes.
#[async_trait]
pub trait Sandboxes: Send + Sync {
    /// Makes one. The id again: conflict. Returns when it runs, or with the failure after everything of it was removed.
    async fn create(&self, request: CreateSandbox) -> Result<SandboxReport>;
    /// Forks one; returns when the child runs.
    async fn fork(&self, request: ForkSandbox) -> Result<SandboxReport>;
    /// Ends it gently: processes get TERM, then KILL after the grace. Returns at once with the state; `watch` tells the rest.
    /// `reason` is given when nobody asked for it (age, idleness).
    async fn stop(&self, id: SandboxId, reason: Option<FailureReason>) -> Result<SandboxReport>;
    /// Ends it hard and removes all but its journal. One that is not there is fine.
    async fn delete(&self, id: SandboxId) -> Result<()>;
    /// Freezes it where its driver can; one that is paused is fine. With `unless_used_since` one that was used after that stays as it is.
    async fn pause(
        &self,
        id: SandboxId,
        unless_used_since: Option<Timestamp>,
    ) -> Result<SandboxReport>;
    /// Thaws it; one that runs is fine.
    async fn resume(&self, id: SandboxId) -> Result<SandboxReport>;
    /// Whether it wakes up when it is used while it is paused.
    async fn set_auto_resume(&self, id: SandboxId, auto_resume: bool) -> Result<()>;
    /// Everything on this node, the ended but not deleted included.
    async fn list(&self) -> Result<Vec<SandboxReport>>;
    /// One.
    async fn get(&self, id: SandboxId) -> Result<SandboxReport>;
    /// What commands in it start with.
    async fn defaults(&self, id: SandboxId) -> Result<Defaults>;
    /// Every change from now on. A watcher that falls behind misses changes and gets an error item; it then lists again.
    fn watch(&self) -> BoxStream<'static, Result<SandboxReport>>;
    /// What it uses now.
    async fn stats(&self, id: SandboxId) -> Result<SandboxStats>;
    /// Says that it was used: moves `last_active_at`.
    async fn touch(&self, id: SandboxId) -> Result<()>;
    /// Puts a warning about its coming end into its journal.
    async fn warn_ttl(&self, id: SandboxId, seconds_remaining: u64) -> Result<()>;
}

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

/// A file system entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Last part of the path. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Absolute path.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Bytes.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name or number.
    pub owner: String,
    /// Group's name or number.
    pub group: String,
    /// Last change of content.
    pub modified_at: Timestamp,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink_target: Option<String>,
    /// Where a symbolic link leads in the end, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Extended attributes in `user.`, by their whole names. Bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Map,
}

/// See [`FileEntry::resolved`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// A path without any link in it.
    pub path: String,
    /// What is there.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Its permission bits.
    pub mode: u32,
}

/// A user of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFacts {
    /// Name, or number where there is none.
    pub name: String,
    /// Home directory, an absolute path.
    pub home: String,
}

/// A file to write into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overwrite {
    /// Absolute.
    pub path: String,
    /// Who owns it from then on; `None`: the image's user.
    pub user: Option<String>,
    /// Of its extended attributes, those whose names begin like this go; empty: none. Begins with `user.`.
    pub attribute_prefix: String,
    /// These come, by their whole names.
    pub attributes: Map,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// A change below a watched directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// What happened.
    pub change: FileChangeKind,
    /// To which path.
    pub path: String,
}

/// See [`FileChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChangeKind {
    /// It is new.
    Created,
    /// Its content changed.
    Modified,
    /// It is gone.
    Removed,
    /// It was renamed to somewhere else.
    MovedFrom,
    /// It was renamed to here.
    MovedTo,
    /// Its mode or owner changed.
    Attributes,
    /// Changes came faster than they could be told; look again.
    Overflow,
}

/// Files in sandboxes. Paths are absolute, at most [`skerry_types::limits::MAX_PATH_BYTES`] bytes, without NUL; `~` is not special.
#[async_trait]
pub trait Files: Send + Sync {
    /// What is at this path (a link itself, not its target).
    async fn stat(&self, sandbox: SandboxId, path: &str) -> Result<FileEntry>;
    /// Entries below a directory, by path, after `after`; the flag says that there are more.
    async fn list_files(
        &self,
        sandbox: SandboxId,
        path: &str,
        depth: u32,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<FileEntry>, bool)>;
    /// Makes a directory with its parents.
    async fn make_dir(&self, sandbox: SandboxId, path: &str, user: Option<&str>) -> Result<()>;
    /// Renames.
    async fn move_file(&self, sandbox: SandboxId, from: &str, to: &str) -> Result<()>;
    /// Removes a file, or a directory with all in it.
    async fn remove(&self, sandbox: SandboxId, path: &str) -> Result<()>;
    /// A file's entry and content.
    async fn read_file(
        &self,
        sandbox: SandboxId,
        path: &str,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<(FileEntry, ByteStream)>;
    /// Writes a file; it appears whole or not at all.
    async fn write_file(
        &self,
        sandbox: SandboxId,
        path: &str,
        mode: Option<u32>,
        user: Option<&str>,
        content: ByteStream,
    ) -> Result<FileEntry>;
    /// Writes into a file itself, from its start, as any program in the sandbox would; what breaks off leaves a part.
    async fn overwrite_file(
        &self,
        sandbox: SandboxId,
        request: Overwrite,
        content: ByteStream,
    ) -> Result<FileEntry>;
    /// Who has this name; `None`: the image's user. There is no such user: not found.
    async fn find_user(&self, sandbox: SandboxId, user: Option<&str>) -> Result<UserFacts>;
    /// A directory, or file, as a tar stream, without what the patterns mean (see [`crate::glob`]).
    async fn read_tar(
        &self,
        sandbox: SandboxId,
        path: &str,
        exclude: Vec<String>,
    ) -> Result<ByteStream>;
    /// Unpacks a tar stream below a directory; bytes unpacked.
    async fn write_tar(
        &self,
        sandbox: SandboxId,
        path: &str,
        user: Option<&str>,
        content: ByteStream,
    ) -> Result<u64>;
    /// Changes below a directory, from now on.
    async fn watch_files(
        &self,
        sandbox: SandboxId,
        path: &str,
        recursive: bool,
    ) -> Result<BoxStream<'static, Result<FileChange>>>;
}

/// Programs in sandboxes that listen.
#[async_trait]
pub trait Ports: Send + Sync {
    /// Connects to a port of the sandbox's own loopback: `outgoing` goes to the program, what it says is the answer. Nothing listens there:
    /// [`skerry_types::ErrorCode::PortClosed`].
    ///
    /// The end of either stream ends that direction only. An error in `outgoing` breaks the connection, and so does dropping the answer before
    /// its end; a connection that breaks, or whose sandbox is paused or stopped, ends the answer with an error.
    async fn dial(&self, sandbox: SandboxId, port: u16, outgoing: ByteStream)
    -> Result<ByteStream>;
}

/// An event in a sandbox's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEvent {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When.
    pub ts: Timestamp,
    /// Its type: `sandbox.created`, `exec.output` … `docs/events.md` lists them.
    #[serde(rename = "type")]
    pub kind: String,
    /// What belongs to that type.
    pub data: serde_json::Value,
}

/// Records of sandboxes.
#[async_trait]
pub trait Events: Send + Sync {
    /// Everything that happened after `after_seq`; with `follow` until the sandbox is over.
    async fn events(
        &self,
        sandbox: SandboxId,
        after_seq: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<JournalEvent>>>;
    /// Removes the journals of sandboxes that were deleted before this time; how many.
    async fn purge_journals(&self, deleted_before: Timestamp) -> Result<u64>;
}

/// How a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Why it can keep no files of another sandbox; `None`: it can.
    pub storage: Option<String>,
    /// Why it can keep no record of anything new; `None`: it can.
    pub records: Option<String>,
}

/// Whether a node is well.
#[async_trait]
pub trait Health: Send + Sync {
    /// What keeps it from taking new work.
    async fn health(&self) -> Result<NodeHealth>;
}
