//! Links to the node, one after another.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use skerry_proto::agent::ToAgent;
use skerry_proto::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Agent;

impl Agent {
    /// Serves links; each takes the place of the one before.
    pub(super) async fn serve(self: &Arc<Self>, mut waiting: mpsc::Receiver<DuplexStream>) {
        let mut next = waiting.recv().await;
        while let Some(stream) = next {
            let link = CancellationToken::new();
            *self.link.lock() = link.clone();
            next = tokio::select! {
                next = waiting.recv() => next,
                () = self.converse(stream, &link) => waiting.recv().await,
                () = link.cancelled() => waiting.recv().await,
            };
            self.forget_link();
        }
    }

    fn forget_link(&self) {
        self.execs.detach_all();
        self.files.cancel_all();
        self.outbox.close();
    }

    async fn converse(self: &Arc<Self>, stream: DuplexStream, link: &CancellationToken) {
        self.awake().await;
        self.outbox.open();
        self.outbox.send(self.hello());
        let (reader, writer) = tokio::io::split(stream);
        let mut reading = std::pin::pin!(self.read(reader, link));
        // However it ends, the node is not there any more.
        tokio::select! {
            _ = &mut reading => {}
            _ = self.write(writer) => {
                // Its last words may still be on their way.
                self.outbox.close();
                drop(reading.await);
            }
        }
    }

    async fn read(
        self: &Arc<Self>,
        mut reader: ReadHalf<DuplexStream>,
        link: &CancellationToken,
    ) -> io::Result<()> {
        let mut input = BytesMut::new();
        loop {
            while let Some(message) =
                frame::decode::<ToAgent>(&mut input).map_err(io::Error::other)?
            {
                self.awake().await;
                // Nothing that comes after the break is heard, however the tasks are scheduled.
                if link.is_cancelled() {
                    return Ok(());
                }
                if let Some(body) = message.body {
                    self.handle(body);
                }
            }
            if reader.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn write(&self, mut writer: WriteHalf<DuplexStream>) -> io::Result<()> {
        let mut output = BytesMut::new();
        loop {
            frame::encode(&self.outbox.next().await, &mut output);
            self.awake().await;
            writer.write_all(&output).await?;
            output.clear();
            self.outbox.sent();
        }
    }
}
