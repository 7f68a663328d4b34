//! One file as the body of an answer.

use axum::body::Body;
use axum::extract::Extension;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use skerry_http::{Answer, Query};
use skerry_proto::node::{ByteStream, FileEntry};
use skerry_types::{Error, ErrorCode, Result};

use super::At;
use crate::envd::inside::Inside;
use crate::envd::path::resolve;
use crate::place::text;

/// Reads a file, or the part of it that `Range` names.
pub(super) async fn read(
    Extension(inside): Extension<Inside>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Answer<Response> {
    let path = resolve(
        &inside,
        at.user(&inside),
        at.path.as_deref().unwrap_or_default(),
    )
    .await?;
    let file = File { inside, path };
    let mut response = match text(&headers, header::RANGE.as_str()).and_then(Range::parse) {
        Some(range) => file.part(range).await?,
        None => file.whole().await?,
    };
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "inline"),
        (header::ACCEPT_RANGES, "bytes"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

struct File {
    inside: Inside,
    path: String,
}

impl File {
    async fn open(&self, offset: u64, limit: Option<u64>) -> Result<(FileEntry, ByteStream)> {
        let Inside { node, sandbox, .. } = &self.inside;
        let opened = node.read_file(*sandbox, &self.path, offset, limit).await;
        opened.map_err(|error| match error.code {
            ErrorCode::NotFound => {
                Error::new(error.code, format!("path '{}' does not exist", self.path))
            }
            _ => error,
        })
    }

    async fn whole(&self) -> Result<Response> {
        let (entry, mut content) = self.open(0, None).await?;
        if entry.size_bytes > 0 {
            return Ok(sized(entry.size_bytes, content));
        }
        // It is empty, or one of those of the kernel that say so and are not.
        Ok(match content.next().await {
            None => Response::new(Body::empty()),
            Some(first) => {
                let all = stream::iter([first]).chain(content);
                Response::new(body(all))
            }
        })
    }

    async fn part(&self, range: Range) -> Result<Response> {
        let (entry, _) = self.open(0, Some(1)).await?;
        let size = entry.size_bytes;
        let Some((from, to)) = range.within(size) else {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            says(&mut response, &format!("bytes */{size}"));
            return Ok(response);
        };
        let length = to - from + 1;
        let (_, content) = self.open(from, Some(length)).await?;
        let mut response = sized(length, content);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        says(&mut response, &format!("bytes {from}-{to}/{size}"));
        Ok(response)
    }
}

/// Whoever packs a body asks again after its end.
fn body(content: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Body {
    Body::from_stream(content.fuse())
}

fn says(response: &mut Response, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
}

/// So many bytes. A file that has become shorter breaks the connection, one that has become longer is cut.
fn sized(size: u64, content: ByteStream) -> Response {
    let cut = content.scan(size, |left, chunk| {
        let chunk = chunk.map(|mut chunk: Bytes| {
            chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= chunk.len() as u64;
            chunk
        });
        let is_over = matches!(&chunk, Ok(chunk) if chunk.is_empty());
        std::future::ready((!is_over).then_some(chunk))
    });
    let mut response = Response::new(body(cut));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    response
}

/// A part of a file, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    From(u64, Option<u64>),
    Last(u64),
}

impl Range {
    /// One range of bytes; anything else counts for nothing.
    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        if from.is_empty() {
            return Some(Self::Last(to.parse().ok()?));
        }
        let to = (!to.is_empty()).then(|| to.parse()).transpose().ok()?;
        let from = from.parse().ok()?;
        to.is_none_or(|to| from <= to)
            .then_some(Self::From(from, to))
    }

    fn within(self, size: u64) -> Option<(u64, u64)> {
        let last = size.checked_sub(1)?;
        match self {
            Self::From(from, to) => (from <= last).then(|| (from, to.unwrap_or(last).min(last))),
            Self::Last(0) => None,
            Self::Last(count) => Some((size.saturating_sub(count), last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn a_range_is_cut_to_what_is_there() {
        for (text, wanted) in [
            ("bytes=0-4", Some((0, 4))),
            ("bytes=4-", Some((4, 9))),
            ("bytes=4-100", Some((4, 9))),
            ("bytes=-3", Some((7, 9))),
            ("bytes=-100", Some((0, 9))),
            ("bytes=10-", None),
            ("bytes=-0", None),
        ] {
            assert_eq!(Range::parse(text).unwrap().within(10), wanted, "{text}");
        }
        assert_eq!(Range::parse("bytes=0-").unwrap().within(0), None);
    }

    #[test]
    fn what_is_no_single_range_counts_for_nothing() {
        for text in [
            "",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=a-b",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }
}
