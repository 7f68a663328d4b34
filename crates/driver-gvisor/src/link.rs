//! The way to the agent: it dials a socket of ours, again whenever its link ends. So the sandbox itself holds no socket of the host's that
//! would keep its memory from being saved.

use std::fs::Permissions;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::{UnixListener, UnixStream};

use crate::record::Place;

/// The socket's name in the folder that is shown inside.
pub(crate) const SOCKET: &str = "link";
/// An agent that does not let go of its link for so long does nothing any more.
const LET_GO: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// A socket that one agent dials.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Held while a link is waited for.
    listener: tokio::sync::Mutex<UnixListener>,
    /// Dialled, and wanted by nobody yet.
    waiting: Mutex<Option<UnixStream>>,
    /// Our end of the link in use.
    current: Mutex<Option<StdStream>>,
}

impl Exchange {
    /// Listens in this folder, in the place of whoever did before. `owner` alone may dial.
    pub(crate) fn open(inside: &Path, owner: u32) -> io::Result<Self> {
        let place = Place::open(inside)?;
        let path = place.join(SOCKET);
        close(inside)?;
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        chown(&path, Some(owner), Some(owner))?;
        Ok(Self {
            listener: tokio::sync::Mutex::new(listener),
            waiting: Mutex::default(),
            current: Mutex::default(),
        })
    }

    /// Until the agent has dialled for the first time.
    pub(crate) async fn dialled(&self) -> io::Result<()> {
        let stream = self.listener.lock().await.accept().await?.0;
        *self.waiting.lock() = Some(stream);
        Ok(())
    }

    /// A new link; the one before ends.
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        let listener = self.listener.lock().await;
        let waiting = self.waiting.lock().take();
        let stream = match waiting {
            Some(stream) => stream,
            None => {
                self.hang_up()?;
                listener.accept().await?.0
            }
        };
        let stream = stream.into_std()?;
        *self.current.lock() = Some(stream.try_clone()?);
        UnixStream::from_std(stream)
    }

    fn hang_up(&self) -> io::Result<()> {
        match self.current.lock().take() {
            Some(link) => ended(link.shutdown(Shutdown::Both)),
            None => Ok(()),
        }
    }

    /// Ends the link and lets no other begin: when this returns, the sandbox holds none. The agent has to run for that.
    pub(crate) fn cut(self, inside: &Path) -> io::Result<()> {
        let listener = self.listener.into_inner();
        close(inside)?;
        let mut links: Vec<StdStream> = Vec::new();
        links.extend(self.current.into_inner());
        links.extend(self.waiting.into_inner().map(UnixStream::into_std).transpose()?);
        let listener = listener.into_std()?;
        while let Ok((stream, _)) = listener.accept() {
            links.push(stream);
        }
        drop(listener);
        links.into_iter().try_for_each(|link| {
            ended(link.shutdown(Shutdown::Write))?;
            let link = OwnedFd::from(link);
            // Hung up by the other side: what it said last can still be read by whoever has the link.
            let mut other_end = [PollFd::new(&link, PollFlags::empty())];
            match poll(&mut other_end, Some(&LET_GO))? {
                0 => Err(io::ErrorKind::TimedOut.into()),
                _ => Ok(()),
            }
        })
    }
}

/// Takes the socket away from the folder.
fn close(inside: &Path) -> io::Result<()> {
    match std::fs::remove_file(inside.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A link that has ended already is as good.
fn ended(shutdown: io::Result<()>) -> io::Result<()> {
    match shutdown {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}
