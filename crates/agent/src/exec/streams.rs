//! The ends of pipes and terminals that the agent holds, read without blocking.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;
use skerry_proto::agent::{STDERR, STDOUT};
use skerry_proto::frame::CHUNK_BYTES;
use tokio::io::unix::AsyncFd;

use crate::exec::buffer::{self, Buffer};

/// More than a terminal can hold when its last writer is gone.
const TERMINAL_BYTES: usize = 128 * 1024;

/// What a pipe that is read as fast as it is filled may hold: fewer and larger turns for both sides.
const BUSY_PIPE_BYTES: usize = 256 * 1024;

/// Makes a descriptor fit for the loop.
#[expect(
    unsafe_code,
    reason = "registering asks for a promise about the descriptor"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` stays the same open descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// One read of at most `limit` bytes; empty at the end.
fn read_now(fd: &OwnedFd, limit: usize) -> io::Result<Bytes> {
    let mut buffer = Buffer::get();
    let limit = limit.min(CHUNK_BYTES);
    match rustix::io::read(fd, &mut buffer.room()[..limit]) {
        Ok(count) => Ok(buffer.freeze(count)),
        // A terminal whose other side is gone.
        Err(Errno::IO) => Ok(Bytes::new()),
        Err(error) => Err(error.into()),
    }
}

/// One read of at most `limit` bytes, as soon as there is something. Losing no byte if dropped half-way.
pub(crate) async fn read(fd: &AsyncFd<OwnedFd>, limit: usize) -> io::Result<Bytes> {
    loop {
        let mut ready = fd.readable().await?;
        match ready.try_io(|fd| read_now(fd.get_ref(), limit)) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(done) => return done,
            Err(_would_block) => {}
        }
    }
}

/// What a process writes to: two pipes, or one terminal.
#[derive(Debug)]
pub(crate) struct Streams {
    sources: [Option<Source>; 2],
}

#[derive(Debug)]
struct Source {
    fd: AsyncFd<OwnedFd>,
    stream: u32,
    /// What may still be read once the process is over.
    budget: usize,
    is_wide: bool,
}

impl Source {
    fn new(fd: OwnedFd, stream: u32) -> io::Result<Self> {
        Ok(Self {
            fd: watch(fd)?,
            stream,
            budget: 0,
            is_wide: false,
        })
    }

    /// Whoever fills a pipe gets a larger one.
    fn widen(&mut self) {
        if !std::mem::replace(&mut self.is_wide, true) {
            // A terminal has no size, and a user may have only so much in pipes: the one that is there will do.
            let _: rustix::io::Result<usize> = fcntl_setpipe_size(&self.fd, BUSY_PIPE_BYTES);
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        buffer::free();
    }
}

impl Streams {
    pub(crate) fn pipes(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let sources = [
            Some(Source::new(stdout, STDOUT)?),
            Some(Source::new(stderr, STDERR)?),
        ];
        Ok(Self { sources })
    }

    pub(crate) fn terminal(fd: OwnedFd) -> io::Result<Self> {
        let sources = [Some(Source::new(fd, STDOUT)?), None];
        Ok(Self { sources })
    }

    /// The next chunk of at most `limit` bytes and its stream. Never if all are closed.
    pub(crate) async fn next(&mut self, limit: usize) -> (u32, Bytes) {
        loop {
            let [first, second] = &self.sources;
            let (index, read) = tokio::select! {
                read = read_if_open(first.as_ref(), limit) => (0, read),
                read = read_if_open(second.as_ref(), limit) => (1, read),
            };
            if let Some(chunk) = self.take(index, read) {
                return chunk;
            }
        }
    }

    /// A result of reading as a chunk; the end of a source closes it.
    fn take(&mut self, index: usize, read: io::Result<Bytes>) -> Option<(u32, Bytes)> {
        match read {
            Ok(data) if !data.is_empty() => {
                let source = self.sources[index].as_mut()?;
                if data.len() == CHUNK_BYTES {
                    source.widen();
                }
                Some((source.stream, data))
            }
            Ok(_) | Err(_) => {
                self.sources[index] = None;
                None
            }
        }
    }

    /// The process is over: what it wrote is in the pipes now, and only that much will be read.
    pub(crate) fn measure(&mut self, terminal: bool) {
        for source in self.sources.iter_mut().flatten() {
            let waiting = rustix::io::ioctl_fionread(source.fd.get_ref()).unwrap_or(0);
            source.budget = if terminal {
                TERMINAL_BYTES
            } else {
                usize::try_from(waiting).unwrap_or(0)
            };
        }
    }

    /// The next chunk of what was measured, without waiting.
    pub(crate) fn drain(&mut self, limit: usize) -> Option<(u32, Bytes)> {
        for source in self.sources.iter_mut().flatten() {
            let limit = limit.min(source.budget);
            if limit == 0 {
                continue;
            }
            match read_now(source.fd.get_ref(), limit) {
                Ok(data) if !data.is_empty() => {
                    source.budget -= data.len();
                    return Some((source.stream, data));
                }
                Ok(_) | Err(_) => source.budget = 0,
            }
        }
        None
    }
}

async fn read_if_open(source: Option<&Source>, limit: usize) -> io::Result<Bytes> {
    match source {
        Some(source) => read(&source.fd, limit).await,
        None => std::future::pending().await,
    }
}
