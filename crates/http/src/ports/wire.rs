//! A connection to a program in a sandbox as a stream of bytes to read and write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use skerry_proto::node::{ByteStream, Node};
use skerry_types::{Error, ErrorCode, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;
use tokio_util::sync::PollSender;

use super::Target;

/// Connects. Shutting the writing half down ends that direction; dropping it before that, or all of it, breaks the connection.
pub(super) async fn connect(
    node: &dyn Node,
    target: Target,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let (writer, said) = Writer::new();
    let heard = node.dial(target.sandbox, target.port, said).await?;
    let reader = StreamReader::new(heard.map_err(io::Error::other));
    Ok(tokio::io::join(reader, writer))
}

enum Said {
    Bytes(Bytes),
    /// There is no more. Without it the writer was dropped in the midst of what it had to say.
    End,
}

struct Writer(PollSender<Said>);

impl Writer {
    fn new() -> (Self, ByteStream) {
        let (writer, said) = mpsc::channel(1);
        let said = stream::unfold(Some(said), |said| async {
            let mut said = said?;
            match said.recv().await {
                Some(Said::Bytes(bytes)) => Some((Ok(bytes), Some(said))),
                Some(Said::End) => None,
                None => {
                    let text = "the connection broke off";
                    Some((Err(Error::new(ErrorCode::PortClosed, text)), None))
                }
            }
        });
        (Self(PollSender::new(writer)), said.boxed())
    }

    fn poll_say(
        &mut self,
        cx: &mut Context<'_>,
        what: impl FnOnce() -> Said,
    ) -> Poll<io::Result<()>> {
        let broken = |_| io::ErrorKind::BrokenPipe.into();
        ready!(self.0.poll_reserve(cx)).map_err(broken)?;
        Poll::Ready(self.0.send_item(what()).map_err(broken))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = self.poll_say(cx, || Said::Bytes(Bytes::copy_from_slice(data)));
        said.map_ok(|()| data.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.is_closed() {
            return Poll::Ready(Ok(()));
        }
        // Where nobody listens any more, nobody has to know.
        let _told = ready!(self.poll_say(cx, || Said::End));
        self.0.close();
        Poll::Ready(Ok(()))
    }
}
