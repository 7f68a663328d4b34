//! Bulk data under credit, between the loop and the threads that read and write files.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{CREDIT_BYTES, Credit, Data};
use skerry_proto::frame::CHUNK_BYTES;
use tokio::sync::{Notify, mpsc};

use crate::outbox::Outbox;

/// The two directions of one request's data, as the loop sees them.
#[derive(Debug)]
pub(super) struct Flow {
    id: u64,
    /// Bytes that the node still takes.
    credit: Cell<u64>,
    credited: Notify,
    /// Bytes from the node that nobody took yet.
    arrived: RefCell<VecDeque<Data>>,
    waiting: Cell<usize>,
    filled: Notify,
}

impl Flow {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            credit: Cell::new(CREDIT_BYTES.into()),
            credited: Notify::new(),
            arrived: RefCell::default(),
            waiting: Cell::new(0),
            filled: Notify::new(),
        }
    }

    /// The node takes this much more.
    pub(super) fn credit(&self, bytes: u32) {
        self.credit
            .set(self.credit.get().saturating_add(bytes.into()));
        self.credited.notify_one();
    }

    /// Keeps bytes from the node. False if it sent more than it may.
    pub(super) fn arrived(&self, data: Data) -> bool {
        let waiting = self.waiting.get() + data.data.len();
        if waiting > CREDIT_BYTES as usize {
            return false;
        }
        self.waiting.set(waiting);
        self.arrived.borrow_mut().push_back(data);
        self.filled.notify_one();
        true
    }

    /// Sends all that comes from a thread, as far as the node takes it.
    pub(super) async fn send(&self, outbox: &Outbox, mut chunks: mpsc::Receiver<Bytes>) {
        while let Some(data) = chunks.recv().await {
            let size = data.len() as u64;
            while self.credit.get() < size {
                self.credited.notified().await;
            }
            self.credit.set(self.credit.get() - size);
            self.send_data(outbox, data, false);
        }
    }

    /// Says that nothing comes any more.
    pub(super) fn send_end(&self, outbox: &Outbox) {
        self.send_data(outbox, Bytes::new(), true);
    }

    fn send_data(&self, outbox: &Outbox, data: Bytes, eof: bool) {
        let id = self.id;
        outbox.send(Body::Data(Data { id, data, eof }));
    }

    /// Hands all that the node sends to a thread, and gives credit for what it took.
    pub(super) async fn receive(&self, outbox: &Outbox, chunks: mpsc::Sender<Option<Bytes>>) {
        loop {
            let next = self.arrived.borrow_mut().pop_front();
            let Some(Data { data, eof, .. }) = next else {
                self.filled.notified().await;
                continue;
            };
            let size = data.len();
            // A thread that takes no more has failed, and says so itself.
            if size > 0 && chunks.send(Some(data)).await.is_err() {
                return;
            }
            self.waiting.set(self.waiting.get() - size);
            let bytes = u32::try_from(size).unwrap_or(u32::MAX);
            outbox.send(Body::Credit(Credit { id: self.id, bytes }));
            if eof {
                let _: Result<(), _> = chunks.send(None).await;
                return;
            }
        }
    }
}

/// A thread's way to send. Fails when the request is over.
#[derive(Debug)]
pub(super) struct Sink(pub(super) mpsc::Sender<Bytes>);

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let part = &data[..data.len().min(CHUNK_BYTES)];
        self.0
            .blocking_send(Bytes::copy_from_slice(part))
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A thread's way to receive. Ends only where the node said so; a request that breaks off is an error.
#[derive(Debug)]
pub(super) struct Source {
    chunks: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Source {
    pub(super) fn new(chunks: mpsc::Receiver<Option<Bytes>>) -> Self {
        Self {
            chunks,
            current: Bytes::new(),
            ended: false,
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Some(chunk)) => self.current = chunk,
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let size = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..size]);
        Ok(size)
    }
}
