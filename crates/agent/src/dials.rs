//! Connections to programs in the sandbox that listen. None outlives its link.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{Shutdown, sockopt};
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{
    Credit, DIAL_WINDOW_BYTES, Data, Done, Failed, Reply, Response, dial_cost,
};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::exec::{free_buffers, streams, write_all};
use crate::outbox::Outbox;

/// Connections open at once on a link.
const MAX_DIALS: usize = 1024;
/// For a program that listens to have room for one more connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection under way.
#[derive(Debug)]
struct Open {
    windows: Rc<Windows>,
    task: AbortHandle,
}

/// All connections of the current link, by the id of their request.
#[derive(Debug)]
pub(crate) struct Dials {
    open: RefCell<HashMap<u64, Open>>,
    outbox: Rc<Outbox>,
}

impl Dials {
    pub(crate) fn new(outbox: Rc<Outbox>) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            outbox,
        })
    }

    /// Connects, and says how it went.
    pub(crate) fn dial(self: &Rc<Self>, id: u64, port: u32) {
        if self.open.borrow().len() >= MAX_DIALS {
            let message = format!("{MAX_DIALS} connections are open, the most there may be");
            return self.answer(id, Err(io::Error::other(message)));
        }
        let windows: Rc<Windows> = Rc::default();
        let (this, own) = (self.clone(), windows.clone());
        let task = spawn_local(async move {
            let carried = this.carry(id, port, &own).await;
            this.open.borrow_mut().remove(&id);
            if carried.is_err() {
                this.answer(id, carried);
            }
        });
        let task = task.abort_handle();
        let replaced = self.open.borrow_mut().insert(id, Open { windows, task });
        if let Some(replaced) = replaced {
            replaced.task.abort();
        }
    }

    /// Is this the id of a connection?
    pub(crate) fn has(&self, id: u64) -> bool {
        self.open.borrow().contains_key(&id)
    }

    /// Takes data for a program. False if the node breaks the rules.
    pub(crate) fn data(&self, data: Data) -> bool {
        let open = self.open.borrow();
        open.get(&data.id)
            .is_none_or(|open| open.windows.arrived(data))
    }

    /// The node takes more.
    pub(crate) fn credit(&self, id: u64, bytes: u32) {
        if let Some(open) = self.open.borrow().get(&id) {
            open.windows.credited(bytes);
        }
    }

    /// Ends a connection.
    pub(crate) fn cancel(&self, id: u64) {
        if let Some(open) = self.open.borrow_mut().remove(&id) {
            open.task.abort();
        }
    }

    /// Ends all: their link is gone.
    pub(crate) fn cancel_all(&self) {
        for (_, open) in self.open.borrow_mut().drain() {
            open.task.abort();
        }
    }

    fn answer(&self, id: u64, done: io::Result<()>) {
        let reply = match done {
            Ok(()) => Reply::Done(Done::default()),
            Err(error) => Reply::Failed(Failed {
                errno: error.raw_os_error().unwrap_or(0),
                message: error.to_string(),
            }),
        };
        let reply = Some(reply);
        self.outbox.send(Body::Response(Response { id, reply }));
    }

    /// Connects, then carries bytes until both sides have said their last.
    async fn carry(&self, id: u64, port: u32, windows: &Windows) -> io::Result<()> {
        let socket = Socket::connect(port).await?;
        self.answer(id, Ok(()));
        tokio::try_join!(
            self.hear(id, &socket, windows),
            self.tell(id, &socket, windows)
        )?;
        Ok(())
    }

    /// Sends what the program says, as far as the node takes it.
    async fn hear(&self, id: u64, socket: &Socket, windows: &Windows) -> io::Result<()> {
        loop {
            let room = windows.room().await;
            let data = streams::read(&socket.fd, room).await?;
            let eof = data.is_empty();
            windows.spend(data.len());
            self.outbox.send(Body::Data(Data { id, data, eof }));
            if eof {
                return Ok(());
            }
        }
    }

    /// Gives the program what the node sends, and credit for what it took.
    async fn tell(&self, id: u64, socket: &Socket, windows: &Windows) -> io::Result<()> {
        loop {
            let Data { data, eof, .. } = windows.next().await;
            write_all(&socket.fd, &data).await?;
            if eof {
                return socket.end();
            }
            if let Some(bytes) = windows.took(data.len()) {
                self.outbox.send(Body::Credit(Credit { id, bytes }));
            }
        }
    }
}

/// A connection. Unless it was ended it is reset, so that no program takes what broke off for all there is.
struct Socket {
    fd: AsyncFd<OwnedFd>,
    is_ended: Cell<bool>,
}

impl Socket {
    async fn connect(port: u32) -> io::Result<Self> {
        let port = u16::try_from(port).map_err(io::Error::other)?;
        let loopback = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        let [first, second] = loopback.map(|address| TcpStream::connect((address, port)));
        let connected = timeout(PATIENCE, async {
            match first.await {
                Ok(stream) => Ok(stream),
                // Where there is no IPv6 that says nothing of the program.
                Err(error) => second.await.map_err(|_| error),
            }
        });
        let stream = connected.await.map_err(io::Error::from)??;
        stream.set_nodelay(true)?;
        Ok(Self {
            fd: streams::watch(stream.into_std()?.into())?,
            is_ended: Cell::new(false),
        })
    }

    /// Says that nothing more comes.
    fn end(&self) -> io::Result<()> {
        self.is_ended.set(true);
        Ok(rustix::net::shutdown(&self.fd, Shutdown::Write)?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        free_buffers();
        if !self.is_ended.get() {
            // Where this cannot be it is closed like any other.
            let _: rustix::io::Result<()> =
                sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
        }
    }
}

/// What may be under way in both directions.
#[derive(Debug)]
struct Windows {
    /// What the node still takes.
    credit: Cell<u32>,
    credited: Notify,
    /// What the node sent and the program did not take yet.
    arrived: RefCell<VecDeque<Data>>,
    waiting: Cell<u32>,
    filled: Notify,
    /// What the program took and the node has no credit for yet.
    taken: Cell<u32>,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            credit: Cell::new(DIAL_WINDOW_BYTES),
            credited: Notify::new(),
            arrived: RefCell::default(),
            waiting: Cell::new(0),
            filled: Notify::new(),
            taken: Cell::new(0),
        }
    }
}

impl Windows {
    fn credited(&self, bytes: u32) {
        let credit = self.credit.get().saturating_add(bytes);
        self.credit.set(credit.min(DIAL_WINDOW_BYTES));
        self.credited.notify_one();
    }

    /// The largest piece to send, as soon as the node takes any. Never all that it takes: one piece is on its way while another is taken.
    async fn room(&self) -> usize {
        while self.credit.get() < dial_cost(0) {
            self.credited.notified().await;
        }
        self.credit.get().min(DIAL_WINDOW_BYTES / 2) as usize
    }

    fn spend(&self, bytes: usize) {
        self.credit
            .set(self.credit.get().saturating_sub(dial_cost(bytes)));
    }

    /// Keeps bytes from the node. False if it sent more than it may.
    fn arrived(&self, data: Data) -> bool {
        let waiting = self.waiting.get() + dial_cost(data.data.len());
        if waiting > DIAL_WINDOW_BYTES {
            return false;
        }
        self.waiting.set(waiting);
        self.arrived.borrow_mut().push_back(data);
        self.filled.notify_one();
        true
    }

    async fn next(&self) -> Data {
        loop {
            if let Some(data) = self.arrived.borrow_mut().pop_front() {
                return data;
            }
            self.filled.notified().await;
        }
    }

    /// Notes what the program took. The credit to give, once it is half the window.
    fn took(&self, bytes: usize) -> Option<u32> {
        let taken = self.taken.get() + dial_cost(bytes);
        let is_due = taken >= DIAL_WINDOW_BYTES / 2;
        self.taken.set(if is_due { 0 } else { taken });
        if is_due {
            self.waiting.set(self.waiting.get().saturating_sub(taken));
        }
        is_due.then_some(taken)
    }
}
