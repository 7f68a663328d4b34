//! A connection to a program in a sandbox, seen from the caller: bytes in both directions under credit.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use skerry_proto::agent::{
    Credit, DIAL_WINDOW_BYTES, Data, Dial, Failed, Reply, dial_cost, to_agent::Body as To,
};
use skerry_proto::node::ByteStream;
use skerry_types::{Error, ErrorCode, Result};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Transfer;
use crate::actor::{Command, DialSink, Handle, Incoming};

/// For the agent to say whether somebody listens; it gives up earlier by itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// All the pieces that a window holds, and the answers beside.
const PIECES: usize = (DIAL_WINDOW_BYTES / dial_cost(0)) as usize + 2;
/// Credit comes for half a window and more.
const CREDITS: usize = 2;
/// One piece is on its way while another is taken.
const MOST_BYTES: usize = DIAL_WINDOW_BYTES as usize / 2;

/// What the kernel says where nobody listens.
const REFUSED: i32 = 111;

/// Connects; see [`skerry_proto::node::Ports::dial`].
pub(crate) async fn dial(handle: &Handle, port: u16, outgoing: ByteStream) -> Result<ByteStream> {
    let (sink, incoming) = mpsc::channel(PIECES);
    let (credits, credit) = mpsc::channel(CREDITS);
    let sinks = DialSink { sink, credits };
    let call = Dial { port: port.into() };
    let id = handle
        .ask(|reply| Command::Dial(call, sinks, reply))
        .await?;
    let mut transfer = Transfer {
        handle: handle.clone(),
        id,
        incoming,
        is_over: false,
    };
    match timeout(PATIENCE, transfer.whenever()).await {
        Ok(Ok(Incoming::Response(response))) => match response.reply {
            Some(Reply::Done(_)) => {}
            Some(Reply::Failed(failed)) => {
                transfer.is_over = true;
                return Err(not_connected(port, &failed));
            }
            _ => return Err(Error::internal("the agent answered something else")),
        },
        Ok(Ok(_)) => return Err(Error::internal("the agent sent bytes of no connection")),
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(closed(port, "it takes no connection in time")),
    }
    tokio::spawn(speak(handle.clone(), id, outgoing, credit));
    Ok(heard(transfer))
}

fn not_connected(port: u16, failed: &Failed) -> Error {
    if failed.errno == REFUSED {
        return closed(port, "nothing listens there");
    }
    closed(port, &failed.message.chars().take(200).collect::<String>())
}

fn closed(port: u16, why: &str) -> Error {
    Error::new(
        ErrorCode::PortClosed,
        format!("port {port} of the sandbox is closed: {why}"),
    )
    .with_hint("start a program that listens on that port, on 127.0.0.1, ::1 or every address")
}

/// What the program says.
fn heard(transfer: Transfer) -> ByteStream {
    stream::unfold(Some((transfer, 0)), |state| async move {
        let (mut transfer, mut taken) = state?;
        match transfer.piece(&mut taken).await {
            Ok(Some(piece)) => Some((Ok(piece), Some((transfer, taken)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    // Who reads bytes may ask again after their end.
    .fuse()
    .boxed()
}

impl Transfer {
    /// The next bytes of a connection; `taken` is what no credit was given for yet.
    async fn piece(&mut self, taken: &mut u32) -> Result<Option<Bytes>> {
        loop {
            match self.whenever().await? {
                Incoming::Data(data) if data.data.is_empty() => {
                    self.is_over = data.eof;
                    if data.eof {
                        return Ok(None);
                    }
                }
                Incoming::Data(data) => {
                    *taken += dial_cost(data.data.len());
                    if *taken >= DIAL_WINDOW_BYTES / 2 {
                        let (id, bytes) = (self.id, std::mem::take(taken));
                        self.handle.send(To::Credit(Credit { id, bytes })).await;
                    }
                    return Ok(Some(data.data));
                }
                Incoming::Response(_) => {
                    self.is_over = true;
                    let text = "the program in the sandbox broke the connection";
                    return Err(Error::new(ErrorCode::PortClosed, text));
                }
                Incoming::Credit(_) | Incoming::Watched(_) => {}
            }
        }
    }
}

/// Tells the program all that the caller says. Ends when that ends, or the connection does.
async fn speak(handle: Handle, id: u64, mut outgoing: ByteStream, credits: mpsc::Receiver<u32>) {
    let mut window = Window {
        left: DIAL_WINDOW_BYTES,
        credits,
    };
    while let Some(said) = window.beside(outgoing.next()).await {
        match said {
            Some(Ok(mut bytes)) => {
                while !bytes.is_empty() {
                    let Some(room) = window.room().await else {
                        return;
                    };
                    let data = bytes.split_to(bytes.len().min(room));
                    window.left -= dial_cost(data.len());
                    let eof = false;
                    handle.send(To::Data(Data { id, data, eof })).await;
                }
            }
            Some(Err(_broken)) => return handle.tell(Command::Cancel(id)).await,
            None => {
                if window.room().await.is_some() {
                    let (data, eof) = (Bytes::new(), true);
                    handle.send(To::Data(Data { id, data, eof })).await;
                }
                return;
            }
        }
    }
}

/// What the agent still takes.
struct Window {
    left: u32,
    credits: mpsc::Receiver<u32>,
}

impl Window {
    /// Waits for something while credit comes; `None` once the connection is over.
    async fn beside<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return Some(done),
                credit = self.credits.recv() => self.credit(credit?),
            }
        }
    }

    /// The largest piece to send, as soon as the agent takes any.
    async fn room(&mut self) -> Option<usize> {
        while self.left < dial_cost(0) {
            let credit = self.credits.recv().await?;
            self.credit(credit);
        }
        Some(MOST_BYTES.min(self.left as usize))
    }

    /// Never more than was under way, whatever an agent says.
    fn credit(&mut self, bytes: u32) {
        self.left = self.left.saturating_add(bytes).min(DIAL_WINDOW_BYTES);
    }
}
