//! What is said to `criu swrk` and what it answers: one protobuf message each way, over a socket that keeps messages apart.
//!
//! The fields are those that are used here; their numbers are CRIU's.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use prost::Message;
use skerry_sys::{fdpass, pidfd, poll};

use super::PATIENCE;
use super::jail::Criu;

const MAX_BYTES: usize = 64 * 1024;

/// How often is looked whether what is kept is alive: nothing tells of a traced process that it died.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Kinds of requests and answers.
const DUMP: i32 = 1;
const RESTORE: i32 = 2;
const NOTIFY: i32 = 6;

/// Control groups are not CRIU's to make.
pub(super) const IGNORE_CGROUPS: i32 = 0;
/// Nobody outside is connected to what is kept, so nobody has to be kept waiting.
pub(super) const LOCK_NOTHING: i32 = 3;
/// The least that it writes into its log.
pub(super) const ERRORS_ONLY: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "2")]
    options: Option<Options>,
    #[prost(bool, optional, tag = "3")]
    heard: Option<bool>,
}

/// How to do it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Options {
    #[prost(int32, required, tag = "1")]
    pub(super) images_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(super) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(super) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(super) log_level: Option<i32>,
    #[prost(bool, optional, tag = "12")]
    pub(super) notify: Option<bool>,
    #[prost(bool, optional, tag = "21")]
    pub(super) find_watched: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(super) inherit: Vec<Inherit>,
    #[prost(int32, optional, tag = "34")]
    pub(super) cgroups: Option<i32>,
    #[prost(uint32, optional, tag = "35")]
    pub(super) ghost_bytes: Option<u32>,
    #[prost(string, repeated, tag = "36")]
    pub(super) watched_below: Vec<String>,
    #[prost(string, repeated, tag = "37")]
    pub(super) external: Vec<String>,
    #[prost(message, repeated, tag = "39")]
    pub(super) join: Vec<Join>,
    /// Connections that a listener has not taken yet are not kept.
    #[prost(bool, optional, tag = "46")]
    pub(super) skip_untaken: Option<bool>,
    /// Established connections are cut in a copy.
    #[prost(bool, optional, tag = "52")]
    pub(super) close_tcp: Option<bool>,
    #[prost(int32, optional, tag = "64")]
    pub(super) network_lock: Option<i32>,
    #[prost(bool, optional, tag = "67")]
    pub(super) unprivileged: Option<bool>,
    #[prost(string, optional, tag = "68")]
    pub(super) images: Option<String>,
    #[prost(bool, optional, tag = "71")]
    pub(super) log_to_stderr: Option<bool>,
}

/// A descriptor that stands for a file of the host's.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Inherit {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(int32, required, tag = "2")]
    pub(super) fd: i32,
}

/// A namespace to wake up in.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Join {
    #[prost(string, required, tag = "1")]
    pub(super) kind: String,
    #[prost(string, required, tag = "2")]
    pub(super) of: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(bool, required, tag = "2")]
    success: bool,
    #[prost(message, optional, tag = "4")]
    restored: Option<Restored>,
    #[prost(message, optional, tag = "5")]
    notice: Option<Notice>,
}

#[derive(Clone, PartialEq, Message)]
struct Restored {
    #[prost(int32, required, tag = "1")]
    pid: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Notice {
    #[prost(string, optional, tag = "1")]
    what: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pid: Option<i32>,
}

/// Whether CRIU could do it.
pub(super) enum Outcome {
    /// It did; a restored first process has this number.
    Done(u32),
    /// It did not. Why stands in its log.
    Refused,
}

/// Has it keep a process and all below it.
pub(super) fn dump(criu: &Criu, options: Options) -> io::Result<Outcome> {
    let kept = options.pid.and_then(|pid| u32::try_from(pid).ok());
    ask(criu, DUMP, options, kept, &mut |_, _| Ok(()))
}

/// Has it restore what it kept. `notice` is called at each step that it tells of, and it waits meanwhile.
pub(super) fn restore(
    criu: &Criu,
    options: Options,
    notice: &mut dyn FnMut(&str, u32) -> io::Result<()>,
) -> io::Result<Outcome> {
    ask(criu, RESTORE, options, None, notice)
}

fn ask(
    criu: &Criu,
    kind: i32,
    options: Options,
    kept: Option<u32>,
    notice: &mut dyn FnMut(&str, u32) -> io::Result<()>,
) -> io::Result<Outcome> {
    let mut request = Request {
        kind,
        options: Some(options),
        heard: None,
    };
    loop {
        fdpass::send(&criu.socket, &request.encode_to_vec(), &[])?;
        let answer = hear(criu, kept)?;
        if answer.kind == NOTIFY {
            let said = answer.notice.unwrap_or_default();
            let pid = u32::try_from(said.pid.unwrap_or_default()).unwrap_or_default();
            notice(said.what.as_deref().unwrap_or_default(), pid)?;
            request = Request {
                kind: NOTIFY,
                options: None,
                heard: Some(true),
            };
            continue;
        }
        let pid = answer.restored.map_or(0, |restored| restored.pid);
        return Ok(match (answer.success, u32::try_from(pid)) {
            (true, Ok(pid)) => Outcome::Done(pid),
            _ => Outcome::Refused,
        });
    }
}

/// Its next message. CRIU waits for ever for a process that is killed while it is kept, and so does whatever waits for that process.
fn hear(criu: &Criu, kept: Option<u32>) -> io::Result<Answer> {
    let until = Instant::now() + PATIENCE;
    let watched = [criu.socket.as_fd(), criu.pidfd.as_fd()];
    loop {
        match poll::readable(watched, Some(LOOK_AGAIN))? {
            [true, _] => return read(criu),
            // What it started may hold its end of the socket open.
            [_, true] => return Err(died("CRIU")),
            _ if kept.is_some_and(pidfd::is_ending) => return Err(died("the sandbox")),
            _ if Instant::now() >= until => return Err(io::ErrorKind::TimedOut.into()),
            _ => {}
        }
    }
}

fn read(criu: &Criu) -> io::Result<Answer> {
    let mut buffer = vec![0; MAX_BYTES];
    let (len, _) = fdpass::receive(&criu.socket, &mut buffer)?;
    if len == 0 {
        return Err(died("CRIU"));
    }
    Answer::decode(&buffer[..len]).map_err(io::Error::other)
}

fn died(who: &str) -> io::Error {
    io::Error::other(format!("{who} died over it"))
}
