//! Server-sent events: a source of events as a body, many events to a chunk, one bounded buffer for each reader.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use futures::stream::BoxStream;
use serde::Serialize;
use skerry_types::Error;
use tokio::time::{Instant, Interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::json;

/// A chunk goes out when it is this full or the source has nothing more for now.
const CHUNK_BYTES: usize = 64 * 1024;
/// A sign of life this often, so that a dead reader is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon a reader comes back after its stream broke.
const HELLO: &[u8] = b"retry: 1000\n\n";

/// A stream of events as a response. `write` appends one event's frame. Ends with the source, with its first error, or when `closing` is
/// cancelled; the reader resumes after the last id it saw.
pub(crate) fn response<T: 'static>(
    source: BoxStream<'static, Result<T, Error>>,
    closing: &CancellationToken,
    write: fn(&mut BytesMut, &T),
) -> Response {
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    buffer.put_slice(HELLO);
    let frames = Frames {
        source,
        write,
        buffer,
        keep_alive: tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE),
        closing: Box::pin(closing.clone().cancelled_owned()),
        over: false,
    };
    let mut response = Response::new(Body::from_stream(frames));
    let fixed = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that collect a body before passing it on would turn "live" into "later".
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in fixed {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Begins a frame that a reader can resume after.
pub(crate) fn begin(out: &mut BytesMut, seq: u64) {
    // Writing to a growing buffer cannot fail.
    let _ = write!(out, "id: {seq}\ndata: ");
}

/// Ends a frame.
pub(crate) fn end(out: &mut BytesMut) {
    out.put_slice(b"\n\n");
}

/// A frame without a number.
pub(crate) fn data(out: &mut BytesMut, value: &impl Serialize) {
    out.put_slice(b"data: ");
    json::value(out, value);
    end(out);
}

struct Frames<T> {
    source: BoxStream<'static, Result<T, Error>>,
    write: fn(&mut BytesMut, &T),
    buffer: BytesMut,
    keep_alive: Interval,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
}

impl<T> Frames<T> {
    /// Takes from the source until the buffer is full or the source has nothing more; whether to wait.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while !self.over && self.buffer.len() < CHUNK_BYTES {
            match self.source.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => (self.write)(&mut self.buffer, &event),
                Poll::Ready(Some(Err(error))) => {
                    self.buffer.put_slice(b"event: error\n");
                    data(&mut self.buffer, &error);
                    self.over = true;
                }
                Poll::Ready(None) => self.over = true,
                Poll::Pending => break,
            }
        }
    }
}

impl<T> Stream for Frames<T> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.fill(cx);
        if self.closing.as_mut().poll(cx).is_ready() {
            self.over = true;
        }
        if self.buffer.is_empty() && !self.over && self.keep_alive.poll_tick(cx).is_ready() {
            self.buffer.put_slice(b": alive\n\n");
        }
        if !self.buffer.is_empty() {
            return Poll::Ready(Some(Ok(self.buffer.split().freeze())));
        }
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}
