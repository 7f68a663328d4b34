//! File work of a sandbox's agent, seen from the caller: a request, its answer, and the bytes in either direction under credit.

mod dial;

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use skerry_proto::agent::{
    CREDIT_BYTES, Call, Credit, Data, Reply, Response, Watched, to_agent::Body as To,
};
use skerry_proto::frame::CHUNK_BYTES;
use skerry_proto::node::ByteStream;
use skerry_types::{Error, ErrorCode, Result};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::actor::{Command, Handle, Incoming};
use crate::agent::failure;

pub(crate) use dial::dial;

/// Messages a request may have waiting: all the chunks its credit allows, and small ones beside.
const SINK: usize = 1024;

/// The longest silence, such as while a large folder is removed.
const PATIENCE: Duration = Duration::from_mins(10);

/// A request under way. Dropping it cancels it.
#[derive(Debug)]
pub(crate) struct Transfer {
    handle: Handle,
    id: u64,
    incoming: mpsc::Receiver<Incoming>,
    is_over: bool,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.is_over && !self.handle.try_tell(Command::Cancel(self.id)) {
            let (handle, id) = (self.handle.clone(), self.id);
            tokio::spawn(async move { handle.tell(Command::Cancel(id)).await });
        }
    }
}

impl Transfer {
    pub(crate) async fn start(handle: &Handle, call: Call) -> Result<Self> {
        let (sink, incoming) = mpsc::channel(SINK);
        let id = handle
            .ask_soon(|reply| Command::Request(call, sink, reply))
            .await?;
        Ok(Self {
            handle: handle.clone(),
            id,
            incoming,
            is_over: false,
        })
    }

    /// What comes next, which is something sooner or later unless the agent is not well.
    async fn next(&mut self) -> Result<Incoming> {
        let next = timeout(PATIENCE, self.whenever()).await;
        next.unwrap_or_else(|_| {
            Err(Error::internal(format!(
                "the sandbox's agent has said nothing for {} s; what it did is not known",
                PATIENCE.as_secs()
            )))
        })
    }

    /// The same where nothing may come for as long as it likes.
    async fn whenever(&mut self) -> Result<Incoming> {
        self.incoming.recv().await.ok_or_else(|| {
            Error::new(
                ErrorCode::SandboxNotRunning,
                "the link to the sandbox broke before this was done; nothing is known to be changed",
            )
        })
    }

    /// The answer, when nothing but an answer is expected.
    pub(crate) async fn answer(mut self) -> Result<Reply> {
        let reply = self.reply().await?;
        self.is_over = true;
        Ok(reply)
    }

    async fn reply(&mut self) -> Result<Reply> {
        loop {
            if let Incoming::Response(response) = self.next().await? {
                return unwrap(response).inspect_err(|_| self.is_over = true);
            }
        }
    }

    /// The answer that comes first, then the bytes.
    pub(crate) async fn download(mut self) -> Result<(Reply, ByteStream)> {
        let reply = self.reply().await?;
        Ok((reply, self.bytes().boxed()))
    }

    /// The bytes, then the answer that says whether they are all.
    pub(crate) fn bytes(self) -> BoxStream<'static, Result<Bytes>> {
        stream::unfold(Some(self), |transfer| async move {
            let mut transfer = transfer?;
            match transfer.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(transfer))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        loop {
            match self.next().await? {
                Incoming::Data(data) if data.data.is_empty() && data.eof => {
                    self.is_over = true;
                    return Ok(None);
                }
                Incoming::Data(data) => {
                    let credit = Credit {
                        id: self.id,
                        bytes: data.data.len() as u32,
                    };
                    self.handle.send(To::Credit(credit)).await;
                    self.is_over = data.eof;
                    return Ok(Some(data.data));
                }
                Incoming::Response(response) => {
                    let ended = unwrap(response);
                    self.is_over = true;
                    return ended.map(|_| None);
                }
                Incoming::Credit(_) | Incoming::Watched(_) => {}
            }
        }
    }

    /// Sends all of `content`, then waits for the answer.
    pub(crate) async fn upload(mut self, mut content: ByteStream) -> Result<Reply> {
        let mut credit = u64::from(CREDIT_BYTES);
        while let Some(mut bytes) = content.try_next().await? {
            while !bytes.is_empty() {
                let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES));
                while credit < chunk.len() as u64 {
                    if let Some(early) = self.credit(&mut credit).await? {
                        return Ok(early);
                    }
                }
                credit -= chunk.len() as u64;
                self.send(chunk, false).await;
            }
        }
        self.send(Bytes::new(), true).await;
        self.answer().await
    }

    /// Waits for room; an answer that comes before the end is the end.
    async fn credit(&mut self, credit: &mut u64) -> Result<Option<Reply>> {
        match self.next().await? {
            Incoming::Credit(bytes) => *credit += u64::from(bytes),
            Incoming::Response(response) => {
                self.is_over = true;
                return unwrap(response).map(Some);
            }
            Incoming::Data(_) | Incoming::Watched(_) => {}
        }
        Ok(None)
    }

    async fn send(&self, data: Bytes, eof: bool) {
        let data = Data {
            id: self.id,
            data,
            eof,
        };
        self.handle.send(To::Data(data)).await;
    }

    /// Waits until watching, then gives every change.
    pub(crate) async fn watch(mut self) -> Result<BoxStream<'static, Result<Watched>>> {
        self.reply().await?;
        Ok(stream::unfold(Some(self), |transfer| async move {
            let mut transfer = transfer?;
            loop {
                match transfer.whenever().await {
                    Ok(Incoming::Watched(watched)) => return Some((Ok(watched), Some(transfer))),
                    Ok(Incoming::Response(response)) => {
                        transfer.is_over = true;
                        return unwrap(response).err().map(|e| (Err(e), None));
                    }
                    Ok(_) => {}
                    Err(error) => return Some((Err(error), None)),
                }
            }
        })
        .boxed())
    }
}

/// The answer, unless it is a refusal.
pub(crate) fn unwrap(response: Response) -> Result<Reply> {
    match response.reply {
        Some(Reply::Failed(failed)) => Err(failure(&failed)),
        Some(reply) => Ok(reply),
        None => Err(Error::internal("the agent's answer is empty")),
    }
}
