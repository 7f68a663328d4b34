//! Bodies that are too large for memory, both ways.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use skerry_proto::node::ByteStream;
use skerry_types::{Error, ErrorCode, Result};

use crate::App;

/// A request's body of at most `most` bytes. Refused at once when its head says more, broken off with an error when it turns out so.
pub fn upload(app: &App, headers: &HeaderMap, body: Body, most: u64) -> Result<ByteStream> {
    let said = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|said| said > most) {
        return Err(too_large(most));
    }
    Ok(bounded(
        app.settings.patience,
        body.into_data_stream(),
        most,
    ))
}

/// Chunks of at most `most` bytes in all, each of which comes within `patience`.
pub(crate) fn bounded<S, E>(patience: Duration, source: S, most: u64) -> ByteStream
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Send + 'static,
{
    let left = most;
    futures::stream::unfold(Some((source, left)), move |state| async move {
        let (mut source, left) = state?;
        let next = tokio::time::timeout(patience, source.next()).await;
        let error = match next {
            Ok(None) => return None,
            Ok(Some(Ok(chunk))) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => return Some((Ok(chunk), Some((source, left)))),
                None => too_large(most),
            },
            Ok(Some(Err(_))) => Error::new(ErrorCode::BadRequest, "the body broke off"),
            Err(_) => Error::new(ErrorCode::RequestTimeout, "the body did not come in time"),
        };
        Some((Err(error), None))
    })
    .boxed()
}

fn too_large(most: u64) -> Error {
    Error::new(
        ErrorCode::TooLarge,
        format!("the body is larger than {most} bytes"),
    )
}

/// Bytes of a sandbox as a download. A source that breaks breaks the connection, so that a part is never taken for the whole.
pub(crate) fn download(name: &str, content: ByteStream) -> Response {
    let mut response = Response::new(Body::from_stream(content));
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    let attachment = format!("attachment; filename=\"{}\"", file_name(name));
    if let Ok(value) = HeaderValue::from_str(&attachment) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// The name with whatever could leave the quotes taken out.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '/' | '%') {
                c
            } else {
                '_'
            }
        })
        .take(200)
        .collect()
}
