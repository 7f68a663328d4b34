//! The byte stream to the node: accepted one after another, read into messages, written from the outbox.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use skerry_proto::agent::ToAgent;
use skerry_proto::frame::{self, FrameError};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::args::Source;
use crate::boot;
use crate::outbox::Outbox;

/// Encoded messages gathered for one write.
const BATCH_BYTES: usize = 128 * 1024;
/// Between two attempts to dial there is this much more rest each time, up to the most.
const DIAL_REST: Duration = Duration::from_millis(1);
const MAX_DIAL_REST: Duration = Duration::from_millis(200);
/// Nothing tells when a place to listen at becomes free.
const HOME_REST: Duration = Duration::from_millis(2);

/// Where links come from, made before the loop runs.
#[derive(Debug)]
pub(crate) enum Links {
    Listener(std::os::unix::net::UnixListener, Option<Home>),
    Only(std::os::unix::net::UnixStream),
    Dialled(PathBuf),
}

/// A folder of the launcher's that no path inside leads to.
///
/// Who keeps the memory of a sandbox can keep no socket of the host's. So once everybody is held and the link is gone, the agent has none any more
/// until there is a free place in here: in what was copied, when whoever copied it makes the place free; in a copy at once, since its folder is new.
#[derive(Debug)]
pub(crate) struct Home(OwnedFd);

impl Home {
    async fn listen(&self) -> UnixListener {
        let place = format!("/proc/self/fd/{}/agent.sock", self.0.as_raw_fd());
        loop {
            if let Ok(listener) = UnixListener::bind(&place) {
                return listener;
            }
            sleep(HOME_REST).await;
        }
    }
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the node sent more data than it may")]
    Rules,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Links {
    pub(crate) fn open(source: &Source) -> io::Result<Self> {
        match source {
            Source::Inherited { home } => {
                let home = home.then(boot::take_home).transpose()?;
                Ok(Self::Listener(boot::take_link()?.into(), home.map(Home)))
            }
            Source::Connected => Ok(Self::Only(boot::take_link()?.into())),
            Source::Path(path) => Ok(Self::Listener(bind(path)?, None)),
            Source::Dial(path) => Ok(Self::Dialled(path.clone())),
        }
    }

    /// Serves links for as long as there can be one.
    pub(crate) async fn serve(self, agent: &Rc<Agent>) -> io::Result<()> {
        match self {
            Self::Only(stream) => {
                stream.set_nonblocking(true)?;
                serve(agent, UnixStream::from_std(stream)?).await;
                Ok(())
            }
            Self::Listener(listener, home) => {
                listener.set_nonblocking(true)?;
                accept(agent, UnixListener::from_std(listener)?, home.as_ref()).await
            }
            Self::Dialled(path) => dial(agent, &path).await,
        }
    }
}

/// Only our own user may connect.
fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A new link replaces the one before: its node may have died without a word.
async fn accept(
    agent: &Rc<Agent>,
    mut listener: UnixListener,
    home: Option<&Home>,
) -> io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    loop {
        let next = tokio::select! {
            next = listener.accept() => next,
            () = serve(agent, stream) => {
                if let Some(home) = home.filter(|_| agent.files.is_holding()) {
                    drop(listener);
                    listener = home.listen().await;
                }
                listener.accept().await
            }
        };
        stream = next?.0;
    }
}

/// Whoever listens may go and come back, and nothing tells when.
async fn dial(agent: &Rc<Agent>, path: &Path) -> ! {
    let mut rest = Duration::ZERO;
    loop {
        if let Ok(stream) = UnixStream::connect(path).await {
            serve(agent, stream).await;
            rest = Duration::ZERO;
        }
        rest = (rest + DIAL_REST).min(MAX_DIAL_REST);
        sleep(rest).await;
    }
}

async fn serve(agent: &Rc<Agent>, stream: UnixStream) {
    agent.linked();
    let _unlink = Unlink(agent);
    let (reader, writer) = stream.into_split();
    let mut reading = pin!(read(agent, reader));
    tokio::select! {
        _ = &mut reading => {}
        _ = write(&agent.outbox, writer) => {
            // The node listens no more, but its last words may still be on their way.
            agent.outbox.close();
            let _: Result<(), LinkError> = reading.await;
        }
    }
}

/// However a link ends, also by being dropped for the next.
struct Unlink<'a>(&'a Rc<Agent>);

impl Drop for Unlink<'_> {
    fn drop(&mut self) {
        self.0.unlinked();
    }
}

async fn read(agent: &Rc<Agent>, reader: OwnedReadHalf) -> Result<(), LinkError> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(message) = frame::decode::<ToAgent>(&mut buffer)? {
            if !message.body.is_none_or(|body| agent.handle(body)) {
                return Err(LinkError::Rules);
            }
            agent.outbox.has_room().await;
        }
        // Not `read`, which takes a short one for all there is: some kernels tell of data and of the end in one event.
        reader.readable().await?;
        match reader.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
}

async fn write(outbox: &Outbox, mut writer: OwnedWriteHalf) -> Result<(), LinkError> {
    let mut batch = BytesMut::new();
    loop {
        frame::encode(&outbox.next().await, &mut batch);
        while batch.len() < BATCH_BYTES
            && let Some(message) = outbox.try_next()
        {
            frame::encode(&message, &mut batch);
        }
        writer.write_all(&batch).await?;
        batch.clear();
    }
}
