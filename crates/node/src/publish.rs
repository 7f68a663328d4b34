//! Ports of sandboxes at ports of this machine: whoever connects to one speaks with the program inside, byte for byte.
//!
//! A port of the machine belongs to one sandbox until that ends, also while no server runs, and then it is a while before another gets it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as Bound};
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::BytesMut;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use rustix::net::sockopt;
use skerry_proto::node::{ByteStream, Ports};
use skerry_types::{Error, ErrorCode, PublishedPort, Result, SandboxId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::node::Node;

/// Connections to the published ports of one sandbox; more wait in the kernel's queue. Other ways to its ports stay open.
const MAX_CONNECTIONS: usize = 256;
/// What is read of a client at once.
const PIECE_BYTES: usize = 16 * 1024;
/// A client that says nothing for this long is asked whether it is still there.
const ARE_YOU_THERE: Duration = Duration::from_mins(1);
/// After no connection could be taken.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// After a port that is on record could not be had.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Where ports of sandboxes are published.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The address to listen on. Whoever reaches it reaches what is published, without a key.
    pub address: IpAddr,
    /// The ports to choose from.
    pub ports: RangeInclusive<u16>,
}

/// Gives ports of this machine away.
#[derive(Debug)]
pub(crate) struct Publisher {
    publish: Option<Publish>,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    /// Those that belong to sandboxes.
    given: BTreeSet<u16>,
    /// Where to look next, so that one that was just given back is the last to be tried.
    next: u16,
}

impl Publisher {
    pub(crate) fn new(publish: Option<Publish>) -> Arc<Self> {
        let next = publish.as_ref().map_or(0, |publish| *publish.ports.start());
        Arc::new(Self {
            publish,
            book: Mutex::new(Book {
                given: BTreeSet::new(),
                next,
            }),
        })
    }

    /// A port of the machine for each of these, to be served once the sandbox is there.
    pub(crate) fn take(self: &Arc<Self>, ports: &[u16]) -> Result<Doors> {
        let mut doors = self.doors(&[]);
        for &port in ports {
            doors.closed.push(self.take_one(port)?);
        }
        Ok(doors)
    }

    /// As it was published before, wherever that is still free.
    pub(crate) fn take_again(self: &Arc<Self>, before: &[PublishedPort]) -> Result<Doors> {
        let mut doors = self.doors(&[]);
        let same = before.iter().filter_map(|&one| self.take_this(one));
        doors.closed.extend(same);
        for &PublishedPort { port, .. } in before {
            if doors.published().iter().all(|same| same.port != port) {
                doors.closed.push(self.take_one(port)?);
            }
        }
        let order = |door: &Door| {
            before
                .iter()
                .position(|one| one.port == door.published.port)
        };
        doors.closed.sort_by_key(order);
        Ok(doors)
    }

    /// This very port of the machine, if ports are still published there and nobody has it.
    fn take_this(&self, published: PublishedPort) -> Option<Door> {
        let address = published.address;
        let Publish { address: at, ports } = self.publish.as_ref()?;
        let mut book = self.book.lock();
        let is_free = address.ip() == *at
            && ports.contains(&address.port())
            && !book.given.contains(&address.port());
        let bound = is_free.then(|| bind(address).ok()).flatten()?;
        book.given.insert(address.port());
        Some(Door {
            published,
            bound: Some(bound),
        })
    }

    fn take_one(&self, port: u16) -> Result<Door> {
        let publish = self.publish.as_ref();
        let Publish { address, ports } =
            publish.ok_or_else(|| Error::unsupported("this node publishes no ports"))?;
        let mut book = self.book.lock();
        for _ in ports.clone() {
            let address = SocketAddr::new(*address, book.next);
            book.next = match book.next {
                last if last == *ports.end() => *ports.start(),
                port => port + 1,
            };
            if book.given.contains(&address.port()) {
                continue;
            }
            match bind(address) {
                Ok(bound) => {
                    book.given.insert(address.port());
                    return Ok(Door {
                        published: PublishedPort { port, address },
                        bound: Some(bound),
                    });
                }
                // Another program of this machine was first.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    let text = format!("port {port} cannot be published at {address}: {error}");
                    return Err(Error::internal(text));
                }
            }
        }
        let (first, last) = (ports.start(), ports.end());
        let text = format!("every port from {first} to {last} of the node is taken");
        Err(Error::new(ErrorCode::NoCapacity, text)
            .with_hint("end sandboxes with published ports, or give `skerry up --publish` more"))
    }

    /// Nobody else gets what is on record, whether or not its sandbox can be taken up yet.
    pub(crate) fn reserve(&self, published: &[PublishedPort]) {
        let ports = published.iter().map(|one| one.address.port());
        self.book.lock().given.extend(ports);
    }

    /// Those that a sandbox has on record.
    pub(crate) fn doors(self: &Arc<Self>, published: &[PublishedPort]) -> Doors {
        self.reserve(published);
        let closed = published.iter().map(|&published| Door {
            published,
            bound: None,
        });
        Doors {
            closed: closed.collect(),
            given: Vec::new(),
            open: JoinSet::new(),
            publisher: Arc::clone(self),
        }
    }
}

#[derive(Debug)]
struct Door {
    published: PublishedPort,
    /// Clients wait in its queue until somebody serves.
    bound: Option<Bound>,
}

/// The ports of the machine that belong to one sandbox. They are given back with this.
#[derive(Debug)]
pub(crate) struct Doors {
    closed: Vec<Door>,
    given: Vec<u16>,
    open: JoinSet<()>,
    publisher: Arc<Publisher>,
}

impl Doors {
    /// For the record.
    pub(crate) fn published(&self) -> Vec<PublishedPort> {
        self.closed.iter().map(|door| door.published).collect()
    }

    /// From now on whoever connects is let in.
    pub(crate) fn open(&mut self, node: &Weak<Node>, sandbox: SandboxId) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for door in self.closed.drain(..) {
            self.given.push(door.published.address.port());
            let inside = Inside {
                node: Weak::clone(node),
                sandbox,
                port: door.published.port,
            };
            self.open.spawn(serve(door, inside, Arc::clone(&places)));
        }
    }

    /// As [`Doors::close`]; returns when nothing of ours listens there any more.
    pub(crate) async fn close_for_good(&mut self) {
        self.open.shutdown().await;
        self.close();
    }

    /// Nobody new is let in. Connections end with the sandbox.
    pub(crate) fn close(&mut self) {
        self.open.abort_all();
        let closed = self.closed.drain(..);
        let closed = closed.map(|door| door.published.address.port());
        let mut book = self.publisher.book.lock();
        for port in closed.chain(self.given.drain(..)) {
            book.given.remove(&port);
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a door leads to.
#[derive(Debug, Clone)]
struct Inside {
    node: Weak<Node>,
    sandbox: SandboxId,
    port: u16,
}

fn bind(address: SocketAddr) -> io::Result<Bound> {
    let bound = Bound::bind(address)?;
    bound.set_nonblocking(true)?;
    Ok(bound)
}

/// Listens, sooner or later: another program may have taken a port on record while no server ran.
async fn listen(door: Door) -> TcpListener {
    let Door { published, bound } = door;
    let mut bound = bound.map_or_else(|| bind(published.address), Ok);
    loop {
        match bound.and_then(TcpListener::from_std) {
            Ok(listener) => return listener,
            Err(error) => {
                tracing::warn!(address = %published.address, %error, "a published port cannot be served for now");
            }
        }
        sleep(LISTEN_AGAIN).await;
        bound = bind(published.address);
    }
}

async fn serve(door: Door, inside: Inside, places: Arc<Semaphore>) {
    let listener = listen(door).await;
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(carry(client, inside.clone(), place))),
            Err(error) => {
                tracing::debug!(sandbox = %inside.sandbox, %error, "no connection could be taken");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Connects a client with the program. What breaks on one side breaks on the other, and is not taken for an end.
async fn carry(client: TcpStream, inside: Inside, place: OwnedSemaphorePermit) {
    if let Err(error) = prepare(&client) {
        return tracing::debug!(%error, "a client of a published port left at once");
    }
    let place = Arc::new(place);
    let (reader, mut writer) = client.into_split();
    let said = said(reader, Arc::clone(&place));
    if let Err(error) = pass(said, &mut writer, inside).await {
        tracing::debug!(%error, "a connection to a published port broke");
        if let Err(error) = sockopt::set_socket_linger(writer.as_ref(), Some(Duration::ZERO)) {
            tracing::debug!(%error, "its client hears of an end");
        }
        writer.forget();
    }
}

fn prepare(client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    sockopt::set_socket_keepalive(client, true)?;
    Ok(sockopt::set_tcp_keepidle(client, ARE_YOU_THERE)?)
}

/// All that the client says. It keeps its place until both directions have ended.
fn said(reader: OwnedReadHalf, place: Arc<OwnedSemaphorePermit>) -> ByteStream {
    stream::unfold((reader, place), |(mut reader, place)| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        match reader.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.freeze()), (reader, place))),
            Err(error) => Some((Err(Error::internal(error)), (reader, place))),
        }
    })
    .boxed()
}

async fn pass(said: ByteStream, client: &mut OwnedWriteHalf, inside: Inside) -> Result<()> {
    let Inside {
        node,
        sandbox,
        port,
    } = inside;
    let node = node.upgrade();
    let node = node.ok_or_else(|| Error::internal("the node is ending"))?;
    let mut heard = node.dial(sandbox, port, said).await?;
    drop(node);
    while let Some(piece) = heard.next().await {
        client.write_all(&piece?).await.map_err(Error::internal)?;
    }
    client.shutdown().await.map_err(Error::internal)
}
