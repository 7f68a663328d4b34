//! Requests and answers: file work, signals, and looking around.

use bytes::Bytes;

/// Something to do and answer, once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Chosen by the node, not used before on this link.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What to do.
    #[prost(oneof = "Call", tags = "2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19")]
    pub call: Option<Call>,
}

/// The calls. Paths are absolute and followed like any program in the sandbox would follow them.
#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(missing_docs, reason = "each message documents itself")]
pub enum Call {
    #[prost(message, tag = "2")]
    Health(Health),
    #[prost(message, tag = "3")]
    Stat(Stat),
    #[prost(message, tag = "4")]
    List(List),
    #[prost(message, tag = "5")]
    MakeDir(MakeDir),
    #[prost(message, tag = "6")]
    Move(Move),
    #[prost(message, tag = "7")]
    Remove(Remove),
    #[prost(message, tag = "8")]
    Read(Read),
    #[prost(message, tag = "9")]
    Write(Write),
    #[prost(message, tag = "10")]
    TarOut(TarOut),
    #[prost(message, tag = "11")]
    TarIn(TarIn),
    #[prost(message, tag = "12")]
    Watch(Watch),
    #[prost(message, tag = "13")]
    ListProcesses(ListProcesses),
    #[prost(message, tag = "14")]
    Hold(Hold),
    #[prost(message, tag = "15")]
    Release(Release),
    #[prost(message, tag = "16")]
    Dial(Dial),
    #[prost(message, tag = "17")]
    Signal(Signal),
    #[prost(message, tag = "18")]
    Overwrite(Overwrite),
    #[prost(message, tag = "19")]
    FindUser(FindUser),
}

/// Send a signal to an exec's process group; in a session, to what the shell runs. Answered by `Done` once the kernel has it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Signal {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub exec_id: Bytes,
    /// Its number.
    #[prost(int32, tag = "2")]
    pub signal: i32,
}

/// Is the agent well? Answered by `Done`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Health {}

/// Stop every process but the agent until `Release`: what is copied now, with its memory, wakes up held. Answered by `Done`. Again: fine.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Hold {}

/// Make new what a copy must not share, then let the processes run that `Hold` stopped. Answered by `Done`; on `Failed` they are still held.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Release {
    /// What must be new; absent for the one that was copied.
    #[prost(message, optional, tag = "1")]
    pub renew: Option<Renew>,
}

/// What must be new in a copy. The agent does what its level lets it, and the driver has done the rest from outside.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Renew {
    /// Random bytes that nobody else has, for the machine id and the boot id. At least 32.
    #[prost(bytes = "bytes", tag = "1")]
    pub entropy: Bytes,
    /// The host name.
    #[prost(string, tag = "2")]
    pub hostname: String,
}

/// What is at this path? Answered by one `Entry`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stat {
    /// The path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
}

/// What is in this directory? Answered by `Entries`, sorted by name. A file lists itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct List {
    /// The path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Levels below it; 0 and 1 mean its own entries.
    #[prost(uint32, tag = "2")]
    pub depth: u32,
    /// Only entries whose path sorts after this one; empty: from the start.
    #[prost(bytes = "bytes", tag = "3")]
    pub after: Bytes,
    /// At most this many, and never more than 1000.
    #[prost(uint32, tag = "4")]
    pub limit: u32,
}

/// Make a directory and its parents; one that is there is fine. Answered by `Done`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MakeDir {
    /// The path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Its permissions; 0: 0755.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Who owns what is made; as in [`ExecStart`].
    #[prost(string, tag = "3")]
    pub user: String,
}

/// Rename; replaces a file that is in the way. Answered by `Done`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Move {
    /// From here.
    #[prost(bytes = "bytes", tag = "1")]
    pub from: Bytes,
    /// To here.
    #[prost(bytes = "bytes", tag = "2")]
    pub to: Bytes,
    /// As whom.
    #[prost(string, tag = "3")]
    pub user: String,
}

/// Remove a file, or a directory with all in it. `/` is refused. Answered by `Done`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Remove {
    /// The path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
}

/// Send a file's content as `Data`. Answered by an `Entry` first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Read {
    /// The path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Skip this many bytes.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// At most this many bytes; 0: all.
    #[prost(uint64, tag = "3")]
    pub limit: u64,
}

/// Write a file from `Data` chunks: to a new file beside it, put in place at the end, so that a broken upload changes nothing.
/// Parents are made. Answered by an `Entry` after the last chunk.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Write {
    /// The path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Its permissions; 0: what an existing file has, else 0644.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Who owns a new file; as in [`ExecStart`].
    #[prost(string, tag = "3")]
    pub user: String,
}

/// Write `Data` chunks into a file itself, from its start, as any program would: what links to it, watches it or has it open goes on with it, and what
/// breaks off leaves a part. Parents are made, links followed. Answered by an `Entry` after the last chunk.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Overwrite {
    /// The path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Who owns it from then on; as in [`ExecStart`].
    #[prost(string, tag = "2")]
    pub user: String,
    /// Of its extended attributes, those whose names begin like this go; empty: none. Begins with `user.`.
    #[prost(string, tag = "3")]
    pub attribute_prefix: String,
    /// These come; their names begin like that.
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<Attribute>,
}

/// Who has this name? Answered by `User`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FindUser {
    /// As in [`ExecStart`].
    #[prost(string, tag = "1")]
    pub user: String,
}

/// Send a directory, or a file, as a tar stream in `Data`. Answered by `Done` after the last chunk.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TarOut {
    /// The path. Names in the archive are relative to it.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Patterns of what to leave out; see [`crate::glob`].
    #[prost(string, repeated, tag = "2")]
    pub exclude: Vec<String>,
}

/// Unpack a tar stream from `Data` below a directory. A name that leads outside is refused and ends it. Answered by `Done`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TarIn {
    /// The directory; made if missing.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Who owns what is unpacked; as in [`ExecStart`].
    #[prost(string, tag = "2")]
    pub user: String,
}

/// Tell of changes below a directory with `Watched`, until cancelled. Answered by `Done` once watching.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Watch {
    /// The directory.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Directories below it too, those made later included.
    #[prost(bool, tag = "2")]
    pub recursive: bool,
}

/// What runs in the sandbox? Answered by `Processes`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ListProcesses {}

/// Connect to a port of the sandbox's own loopback: 127.0.0.1, else ::1. Answered by `Done` once connected; then `Data` goes both ways, and each
/// direction ends with its own `eof`. `Cancel` resets the connection; one that breaks is told of by `Failed`.
///
/// There are many dials, with small pieces of data, so their windows count differently: see [`DIAL_WINDOW_BYTES`] and [`dial_cost`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Dial {
    /// The port, from 1 to 65535.
    #[prost(uint32, tag = "1")]
    pub port: u32,
}

/// What may be under way in each direction of a [`Dial`], counted as [`dial_cost`]. Whoever took half of it gives credit, not before.
pub const DIAL_WINDOW_BYTES: u32 = 64 * 1024;
/// The least that a piece of data counts: a window holds so many pieces at most, however small they are.
const DIAL_PIECE_BYTES: u32 = 256;

/// What data of this many bytes counts in the window of a [`Dial`].
pub const fn dial_cost(bytes: usize) -> u32 {
    if bytes > DIAL_PIECE_BYTES as usize {
        bytes as u32
    } else {
        DIAL_PIECE_BYTES
    }
}

/// The answer to a request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The request's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What came of it.
    #[prost(oneof = "Reply", tags = "2,3,4,5,6,7")]
    pub reply: Option<Reply>,
}

/// See [`Response`].
#[derive(Clone, PartialEq, prost::Oneof)]
#[expect(missing_docs, reason = "each message documents itself")]
pub enum Reply {
    #[prost(message, tag = "2")]
    Done(Done),
    #[prost(message, tag = "3")]
    Entry(Entry),
    #[prost(message, tag = "4")]
    Entries(Entries),
    #[prost(message, tag = "5")]
    Failed(Failed),
    #[prost(message, tag = "6")]
    Processes(Processes),
    #[prost(message, tag = "7")]
    User(User),
}

/// It was done.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Done {
    /// Bytes written or unpacked, where that means something.
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
}

/// It was not done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Failed {
    /// The kernel's error number, or 0.
    #[prost(int32, tag = "1")]
    pub errno: i32,
    /// For a person.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Several entries.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entries {
    /// The entries.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// There are more after the last.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// A file system entry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// Its absolute path.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// 1 file, 2 directory, 3 symbolic link, 4 anything else.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// Bytes.
    #[prost(uint64, tag = "3")]
    pub size: u64,
    /// Permission bits.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// Owner's number.
    #[prost(uint32, tag = "5")]
    pub uid: u32,
    /// Group's number.
    #[prost(uint32, tag = "6")]
    pub gid: u32,
    /// Owner's name, or its number.
    #[prost(string, tag = "7")]
    pub owner: String,
    /// Group's name, or its number.
    #[prost(string, tag = "8")]
    pub group: String,
    /// Last change of content, microseconds since 1970.
    #[prost(int64, tag = "9")]
    pub modified_us: i64,
    /// Where a symbolic link points.
    #[prost(bytes = "bytes", tag = "10")]
    pub target: Bytes,
    /// Where a symbolic link leads in the end, if anywhere.
    #[prost(message, optional, tag = "11")]
    pub resolved: Option<Resolved>,
    /// Its extended attributes in `user.`: at most [`MAX_ATTRIBUTES`], of [`MAX_ATTRIBUTE_BYTES`] together.
    #[prost(message, repeated, tag = "12")]
    pub attributes: Vec<Attribute>,
}

/// Extended attributes that are told of an entry, or set with one request.
pub const MAX_ATTRIBUTES: usize = 64;
/// Bytes of their names and values.
pub const MAX_ATTRIBUTE_BYTES: usize = 16 * 1024;

/// Where a symbolic link leads in the end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resolved {
    /// A path without any link in it.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// What is there; as in [`Entry`].
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// Its permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
}

/// An extended attribute of a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    /// Its name, with `user.`.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// Its value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A user of the sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct User {
    /// Name, or number where there is none.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Home directory; `/` where none is known.
    #[prost(bytes = "bytes", tag = "2")]
    pub home: Bytes,
}

/// What runs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Processes {
    /// At most 4096.
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<Process>,
}

/// A running program.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Process {
    /// Its number in the sandbox.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// Its parent's.
    #[prost(uint32, tag = "2")]
    pub ppid: u32,
    /// Its command line; at most 4096 bytes together.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub argv: Vec<Bytes>,
}

/// Bytes of a request's body or answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Data {
    /// The request's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// At most [`crate::frame::CHUNK_BYTES`].
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Nothing comes after these.
    #[prost(bool, tag = "3")]
    pub eof: bool,
}

/// The receiver of `Data` took this many more bytes.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Credit {
    /// The request's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Bytes.
    #[prost(uint32, tag = "2")]
    pub bytes: u32,
}

/// Forget a request; whatever it half did is undone. Not answered.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Cancel {
    /// The request's id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// A change that a watch saw.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Watched {
    /// The watch's request id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// 1 created, 2 written, 3 removed, 4 renamed away, 5 renamed here, 6 mode or owner changed, 7 some changes were lost.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// The path it happened to.
    #[prost(bytes = "bytes", tag = "3")]
    pub path: Bytes,
}
