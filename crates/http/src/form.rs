//! The files of a form, as they come.

use std::pin::pin;

use axum::body::Body;
use axum::extract::multipart::{Field, MultipartRejection};
use axum::extract::{FromRequest, Multipart, Request};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use skerry_proto::node::ByteStream;
use skerry_types::Result;
use tokio::sync::mpsc;

use crate::{App, body};

/// Chunks that wait for the sandbox to take them.
const QUEUE: usize = 4;

/// Opens a form, each part of which has to come in time.
pub async fn open(app: &App, request: Request) -> Result<Multipart, MultipartRejection> {
    let patience = app.settings.patience;
    let in_time = |body: Body| {
        let content = body::bounded(patience, body.into_data_stream(), u64::MAX);
        Body::from_stream(content)
    };
    Multipart::from_request(request.map(in_time), &()).await
}

/// Lets `write` take a field's content, of at most `most` bytes. The field lives as long as its form, the content for ever, hence the channel
/// between them.
pub async fn with_content<T, W>(
    app: &App,
    mut field: Field<'_>,
    most: u64,
    write: impl FnOnce(ByteStream) -> W,
) -> Result<T>
where
    W: Future<Output = Result<T>>,
{
    let (send, receive) = mpsc::channel(QUEUE);
    let pump = async move {
        loop {
            let part = match field.chunk().await {
                Ok(Some(chunk)) => Part::Chunk(chunk),
                Ok(None) => Part::End,
                Err(_) => return,
            };
            let last = matches!(part, Part::End);
            if send.send(part).await.is_err() || last {
                return;
            }
        }
    };
    let content = body::bounded(app.settings.patience, parts(receive), most);
    let mut written = pin!(write(content));
    tokio::select! {
        // Who does not want the rest does not wait for it.
        written = &mut written => written,
        () = pump => written.await,
    }
}

/// The end is said, so that a form that broke off is never taken for a whole one.
enum Part {
    Chunk(Bytes),
    End,
}

fn parts(receive: mpsc::Receiver<Part>) -> BoxStream<'static, Result<Bytes, ()>> {
    futures::stream::unfold(Some(receive), |state| async {
        let mut receive = state?;
        match receive.recv().await {
            Some(Part::Chunk(chunk)) => Some((Ok(chunk), Some(receive))),
            Some(Part::End) => None,
            None => Some((Err(()), None)),
        }
    })
    .boxed()
}
