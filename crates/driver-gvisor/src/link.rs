//! The way to the agent: it dials a socket of ours, again whenever its link ends. So the sandbox itself holds no socket of the host's that
//! would keep its memory from being saved.

use std::fs::Permissions;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::record::Place;

/// The socket's name in the folder that is shown inside.
pub(crate) const SOCKET: &str = "link";
/// An agent that does not let go of its link for so long does nothing any more.
const LET_GO: Duration = Duration::from_secs(5);
const CHUNK: usize = 64 * 1024;

/// A socket that one agent dials.
#[derive(Debug)]
pub(crate) struct Exchange {
    inside: PathBuf,
    /// Whose files the agent's are, on the host.
    owner: u32,
    /// `None` while no link may be. Held while one is waited for.
    listener: tokio::sync::Mutex<Option<UnixListener>>,
    /// Dialled, and wanted by nobody yet.
    waiting: Mutex<Option<UnixStream>>,
    /// Our end of the link in use.
    current: Mutex<Option<StdStream>>,
}

/// While this lives there is no link and none can begin. Dropped, it lets the agent dial again.
#[derive(Debug)]
pub(crate) struct Closed<'a> {
    exchange: &'a Exchange,
    listener: tokio::sync::MutexGuard<'a, Option<UnixListener>>,
}

impl Exchange {
    /// Listens in this folder, in the place of whoever did before.
    pub(crate) fn open(inside: PathBuf, owner: u32) -> io::Result<Self> {
        let listener = listen(&inside, owner)?;
        Ok(Self {
            inside,
            owner,
            listener: tokio::sync::Mutex::new(Some(listener)),
            waiting: Mutex::default(),
            current: Mutex::default(),
        })
    }

    /// Until the agent has dialled for the first time.
    pub(crate) async fn dialled(&self) -> io::Result<()> {
        let listener = self.listener.lock().await;
        let stream = accept(listener.as_ref()).await?;
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
            self.hang_up().await?;
            accept(listener.as_ref()).await?
        };
        let stream = stream.into_std()?;
        *self.current.lock() = Some(stream.try_clone()?);
        UnixStream::from_std(stream)
    }

    /// Whoever drops this half-way finds the link again.
    async fn hang_up(&self) -> io::Result<()> {
        let link = self.current.lock().as_ref().map(StdStream::try_clone);
        if let Some(link) = link {
            let_go(link?).await?;
            *self.current.lock() = None;
        }
        Ok(())
    }

    /// Ends the link and lets no other begin: when this returns, the sandbox holds none. The agent has to run for that.
    pub(crate) async fn close(&self) -> io::Result<Closed<'_>> {
        let mut listener = self.listener.lock().await;
        take_away(&self.inside)?;
        let mut links: Vec<StdStream> = Vec::new();
        links.extend(self.current.lock().take());
        let waiting = self.waiting.lock().take();
        links.extend(waiting.map(UnixStream::into_std).transpose()?);
        if let Some(listener) = listener.take() {
            // It does not block, and nobody new finds it.
            let listener = listener.into_std()?;
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                links.push(stream);
            }
        }
        let closed = Closed {
            exchange: self,
            listener,
        };
        let ending = async {
            for link in links {
                let_go(link).await?;
            }
            Ok(())
        };
        match timeout(LET_GO, ending)
            .await
            .map_err(io::Error::from)
            .flatten()
        {
            Ok(()) => Ok(closed),
            Err(error) => closed.reopen().and(Err(error)),
        }
    }
}

/// Whoever listens next is dialled only by an agent that has no link.
impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(link) = self.current.get_mut().take() {
            // It ends in any case when the last who has it drops it.
            let _late = link.shutdown(Shutdown::Both);
        }
    }
}

impl Closed<'_> {
    /// Lets the agent dial again.
    pub(crate) fn reopen(mut self) -> io::Result<()> {
        self.listen()
    }

    fn listen(&mut self) -> io::Result<()> {
        *self.listener = Some(listen(&self.exchange.inside, self.exchange.owner)?);
        Ok(())
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        if self.listener.is_none()
            && let Err(error) = self.listen()
        {
            tracing::warn!(%error, "an agent has nowhere to dial");
        }
    }
}

fn listen(inside: &Path, owner: u32) -> io::Result<UnixListener> {
    take_away(inside)?;
    let place = Place::open(inside)?;
    let path = place.join(SOCKET);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    chown(&path, Some(owner), Some(owner))?;
    Ok(listener)
}

async fn accept(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    let listener = listener.ok_or(io::ErrorKind::NotConnected)?;
    Ok(listener.accept().await?.0)
}

/// Hangs up, and waits until the other side has. What it still says is dropped: an agent that is stuck in saying it would not hear the end,
/// and says on its next link whatever was not acknowledged.
async fn let_go(link: StdStream) -> io::Result<()> {
    ended(link.shutdown(Shutdown::Write))?;
    let mut link = UnixStream::from_std(link)?;
    let mut dropped = vec![0; CHUNK];
    // A link that breaks has ended too.
    while let Ok(1..) = link.read(&mut dropped).await {}
    Ok(())
}

/// Takes the socket away from the folder.
fn take_away(inside: &Path) -> io::Result<()> {
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
