//! A connection to a program in a sandbox as a stream of bytes to read and write.

use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use skerry_proto::node::Node;
use skerry_types::Result;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::PollSender;

use super::Target;

/// Connects. Closing the writing half ends that direction; dropping it all breaks the connection.
pub(super) async fn connect(
    node: &dyn Node,
    target: Target,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let (say, said) = mpsc::channel::<Bytes>(1);
    let said = stream::unfold(said, |mut said| async {
        Some((Ok(said.recv().await?), said))
    });
    let heard = node.dial(target.sandbox, target.port, said.boxed()).await?;
    let reader = StreamReader::new(heard.map_err(io::Error::other));
    let say = PollSender::new(say).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    let writer = SinkWriter::new(CopyToBytes::new(say));
    Ok(tokio::io::join(reader, writer))
}
