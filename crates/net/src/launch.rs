//! Finding the running gateway, or starting one.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::FlockOperation;

use crate::error::{Error, Result};
use crate::gateway::Launch;
use crate::options::Options;

const SOCKET: &str = "gateway.sock";
const LOCK: &str = "gateway.lock";
const LOG: &str = "gateway.log";

/// Connects to the gateway that runs for this folder.
pub(crate) async fn adopt(options: &Options) -> io::Result<tokio::net::UnixStream> {
    tokio::net::UnixStream::connect(options.dir.join(SOCKET)).await
}

/// Connects to the gateway of this folder; starts it when there is none.
pub(crate) async fn connect(
    options: &Options,
    userns: Option<&OwnedFd>,
) -> Result<tokio::net::UnixStream> {
    if let Ok(stream) = adopt(options).await {
        return Ok(stream);
    }
    let socket = options.dir.join(SOCKET);
    let dir = options.dir.clone();
    let _lock = tokio::task::spawn_blocking(move || lock(&dir))
        .await
        .map_err(|_| Error::Unexpected)??;
    let stream = match UnixStream::connect(&socket) {
        Ok(stream) => stream,
        Err(_) => start(options, &socket, userns)?,
    };
    stream
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(stream))
        .map_err(|source| connection(&options.dir, source))
}

/// A broken request, with what the gateway may have said about it.
pub(crate) fn connection(dir: &Path, source: io::Error) -> Error {
    let log = std::fs::read_to_string(dir.join(LOG)).unwrap_or_default();
    let last = log.lines().last().unwrap_or("(nothing)");
    Error::Connection {
        log: last.chars().take(500).collect(),
        source,
    }
}

/// Makes the folder and takes its lock, so that two daemons do not start two gateways.
fn lock(dir: &Path) -> Result<File> {
    let failed = |source| Error::Folder {
        path: dir.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let lock = File::create(dir.join(LOCK)).map_err(failed)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|errno| failed(errno.into()))?;
    Ok(lock)
}

/// The gateway inherits its listening socket, so there is nothing to wait for: a first request
/// rests in the socket until the gateway is ready, and fails if it never is.
fn start(options: &Options, socket: &Path, userns: Option<&OwnedFd>) -> Result<UnixStream> {
    let (listener, stream) = listen(socket).map_err(|source| Error::Listen {
        path: socket.to_owned(),
        source,
    })?;
    let log = File::create(options.dir.join(LOG)).map_err(|source| Error::Folder {
        path: options.dir.clone(),
        source,
    })?;
    let pid = std::process::id();
    let launch = Launch {
        config: options.config.clone(),
        socket: socket.to_owned(),
        userns: userns.map(|fd| PathBuf::from(format!("/proc/{pid}/fd/{}", fd.as_raw_fd()))),
    };
    let started = serde_json::to_string(&launch)
        .map_err(io::Error::from)
        .and_then(|launch| spawn(options, listener, log, &launch));
    started.map_err(|source| Error::Start {
        program: options.command.join(" ".as_ref()).display().to_string(),
        source,
    })?;
    Ok(stream)
}

fn listen(socket: &Path) -> io::Result<(UnixListener, UnixStream)> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600))?;
    let stream = UnixStream::connect(socket)?;
    Ok((listener, stream))
}

/// The child is left to itself; the runtime reaps it if it ends before the daemon.
fn spawn(options: &Options, listener: UnixListener, log: File, launch: &str) -> io::Result<()> {
    let (program, args) = options
        .command
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    tokio::process::Command::new(program)
        .args(args)
        .arg(launch)
        .env_clear()
        .envs(["PATH", "RUST_LOG"].map(|key| (key, std::env::var_os(key).unwrap_or_default())))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map(drop)
}
