//! The way to the agent: it dials a socket of ours, again whenever its link ends, so a container needs nothing but a folder that it is shown.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the folder that is shown inside.
pub(crate) const SOCKET: &str = "link";

/// A socket that one agent dials.
#[derive(Debug)]
pub(crate) struct Door {
    /// Held by whoever waits for the agent.
    listener: tokio::sync::Mutex<UnixListener>,
    /// Dialled, and wanted by nobody yet.
    waiting: Mutex<Option<UnixStream>>,
    /// Our end of the link in use.
    current: Mutex<Option<StdStream>>,
}

impl Door {
    /// Listens in this folder, in the place of whoever did before.
    pub(crate) fn open(inside: &Path) -> io::Result<Self> {
        match fs::remove_file(inside.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The address of a socket has room for a short path only.
        let folder = File::open(inside)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET);
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self {
            listener: tokio::sync::Mutex::new(listener),
            waiting: Mutex::default(),
            current: Mutex::default(),
        })
    }

    /// Until the agent has dialled for the first time.
    pub(crate) async fn dialled(&self) -> io::Result<()> {
        let (stream, _) = self.listener.lock().await.accept().await?;
        *self.waiting.lock() = Some(stream);
        Ok(())
    }

    /// A new link; the one before ends.
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        let listener = self.listener.lock().await;
        let waiting = self.waiting.lock().take();
        let stream = if let Some(stream) = waiting {
            stream
        } else {
            self.hang_up();
            listener.accept().await?.0
        };
        let stream = stream.into_std()?;
        *self.current.lock() = Some(stream.try_clone()?);
        UnixStream::from_std(stream)
    }

    fn hang_up(&self) {
        if let Some(link) = self.current.lock().take() {
            // One that has ended already is as good.
            let _ended = link.shutdown(Shutdown::Both);
        }
    }
}

/// Whoever listens next is dialled only by an agent that has no link.
impl Drop for Door {
    fn drop(&mut self) {
        self.hang_up();
    }
}
