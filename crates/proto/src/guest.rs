//! guest.v1: what a driver and the first process of a virtual machine say to each other, beside the agent's own stream.
//!
//! The host asks, the guest answers; one request at a time, over a port that either side may lose and find again. Messages are frames
//! ([`crate::frame`]). An answer repeats its request's id, so that what was meant for an earlier host is told apart.

use bytes::Bytes;

/// The bytes that mark where a link to the agent begins, in either direction. Random and never used again.
pub const MARK_BYTES: usize = 32;

/// The name of the port over which these messages go.
pub const CONTROL_PORT: &str = "control";
/// The name of the port that carries the agent's links.
pub const AGENT_PORT: &str = "agent";
/// Where the base disk is among the machine's devices: an image's layers, never written.
pub const BASE_SLOT: &str = "0000:00:03.0";
/// Where the sandbox's own disk is.
pub const DISK_SLOT: &str = "0000:00:04.0";
/// Where its network card is, if it has one.
pub const NETWORK_SLOT: &str = "0000:00:05.0";

/// Something to do and answer, once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Random.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// What to do.
    #[prost(oneof = "Call", tags = "2,3,4,5,6,7,8,9")]
    pub call: Option<Call>,
}

/// The calls.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Call {
    /// Answer.
    #[prost(message, tag = "2")]
    Ping(Ping),
    /// Mount the sandbox's disk, take its network and start its agent. Once in the life of a machine.
    #[prost(message, tag = "3")]
    Start(Start),
    /// Begin a new link to the agent.
    #[prost(message, tag = "4")]
    Link(Link),
    /// Say what the sandbox uses.
    #[prost(message, tag = "5")]
    Stats(Stats),
    /// Write everything to the disk and let nobody write until `Thaw`. Again: fine.
    #[prost(message, tag = "6")]
    Freeze(Freeze),
    /// Let them write. Again: fine.
    #[prost(message, tag = "7")]
    Thaw(Thaw),
    /// Make new what a copy must not share.
    #[prost(message, tag = "8")]
    Renew(Identity),
    /// Set the clock on or back by so much, and say what it says then.
    #[prost(message, tag = "9")]
    Clock(Clock),
}

/// See [`Call::Ping`]. Answered by `Done`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Ping {}

/// See [`Call::Stats`]. Answered by `Usage`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Stats {}

/// See [`Call::Freeze`]. Answered by `Done`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Freeze {}

/// See [`Call::Thaw`]. Answered by `Done`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Thaw {}

/// See [`Call::Clock`]. Answered by `Time`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Clock {
    /// By so many nanoseconds.
    #[prost(int64, tag = "1")]
    pub shift_ns: i64,
}

/// See [`Call::Link`]. Answered by `Done`.
///
/// From then on the guest drops what comes on the agent's port up to the mark, and sends the mark itself before anything of the new link. After
/// it the host sends the agent's bytes as they are; the guest sends chunks, each led by its length in a little-endian `u32`; 0 is the end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Link {
    /// [`MARK_BYTES`] random bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub mark: Bytes,
}

/// See [`Call::Start`]. Answered by `Done`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Start {
    /// Who it is.
    #[prost(message, optional, tag = "1")]
    pub identity: Option<Identity>,
    /// Folders of the base disk that are layers, lowest first.
    #[prost(string, repeated, tag = "2")]
    pub layers: Vec<String>,
    /// Uid 0 may do more than other users.
    #[prost(bool, tag = "3")]
    pub level_root: bool,
    /// Memory of all processes together, in bytes.
    #[prost(uint64, tag = "4")]
    pub memory_bytes: u64,
    /// Thousandths of a processor.
    #[prost(uint64, tag = "5")]
    pub cpu_milli: u64,
    /// Processes and threads.
    #[prost(uint64, tag = "6")]
    pub pids: u64,
}

/// What no two machines share. As a call answered by `Done`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Identity {
    /// The time when this was asked for, in nanoseconds since 1970. `Clock` sets it right.
    #[prost(int64, tag = "1")]
    pub wall_clock_ns: i64,
    /// Random bytes for the kernel's pool and the boot id. At least 32, at most 256.
    #[prost(bytes = "bytes", tag = "2")]
    pub entropy: Bytes,
    /// The host name.
    #[prost(string, tag = "3")]
    pub hostname: String,
    /// The network, if there is one.
    #[prost(message, optional, tag = "4")]
    pub network: Option<Network>,
    /// Files of the system's own, written whatever was there: path and content.
    #[prost(message, repeated, tag = "5")]
    pub files: Vec<File>,
}

/// How `eth0` is set up.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Network {
    /// The sandbox's address.
    #[prost(fixed32, tag = "1")]
    pub address: u32,
    /// The one neighbour, through which everything goes.
    #[prost(fixed32, tag = "2")]
    pub gateway: u32,
}

/// A small file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct File {
    /// Where.
    #[prost(string, tag = "1")]
    pub path: String,
    /// What is in it.
    #[prost(string, tag = "2")]
    pub content: String,
}

/// The answer to a request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The request's.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// What came of it.
    #[prost(oneof = "Reply", tags = "2,3,4,5")]
    pub reply: Option<Reply>,
}

/// What came of a request.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Reply {
    /// It is done.
    #[prost(message, tag = "2")]
    Done(Done),
    /// It could not be done; this is why.
    #[prost(string, tag = "3")]
    Failed(String),
    /// What the sandbox uses.
    #[prost(message, tag = "4")]
    Usage(Usage),
    /// What the clock says, in nanoseconds since 1970.
    #[prost(int64, tag = "5")]
    Time(i64),
}

/// See [`Reply::Done`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Done {}

/// What the processes of the sandbox use. Says the guest, which can lie.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Usage {
    /// Processor time of all it ever ran, in microseconds.
    #[prost(uint64, tag = "1")]
    pub cpu_us: u64,
    /// Memory now, in bytes.
    #[prost(uint64, tag = "2")]
    pub memory_bytes: u64,
    /// The most it used, in bytes.
    #[prost(uint64, tag = "3")]
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    #[prost(uint64, tag = "4")]
    pub pids: u64,
    /// Processes the kernel killed because there was no memory left.
    #[prost(uint64, tag = "5")]
    pub oom_kills: u64,
}
