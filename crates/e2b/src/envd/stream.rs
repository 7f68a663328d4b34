//! A source of events as a streamed answer: each goes out at once, a sign of life in silence, one bounded buffer for each reader.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use futures::stream::BoxStream;
use tokio::time::{Instant, Interval, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::connect::{Code, Refusal, end, streamed};
use crate::frame;
use crate::place::text;

/// A chunk goes out when it is this full or the source has nothing more for now.
const CHUNK_BYTES: usize = 64 * 1024;
const KEEP_ALIVE: u64 = 90;
/// The longest silence that may be asked for.
const MOST_KEEP_ALIVE: u64 = 3600;

/// What a client asks of a stream beside its events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// A sign of life after so much silence.
    keep_alive: Duration,
    /// How long the call may take; `None`: as long as it likes.
    pub(crate) timeout: Option<Duration>,
}

impl Terms {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let number = |name| text(headers, name)?.parse::<u64>().ok().filter(|n| *n > 0);
        Self {
            keep_alive: Duration::from_secs(
                number("keepalive-ping-interval").map_or(KEEP_ALIVE, |s| s.min(MOST_KEEP_ALIVE)),
            ),
            timeout: number("connect-timeout-ms").map(Duration::from_millis),
        }
    }
}

/// How events are written.
#[derive(Debug)]
pub(crate) struct Words<T> {
    /// The first event, as JSON.
    pub(crate) start: String,
    /// The sign of life, as JSON.
    pub(crate) keep_alive: &'static str,
    /// Appends an event in as many envelopes as it takes.
    pub(crate) write: fn(&mut BytesMut, &T),
}

/// A stream of events as a response. Ends with the source or its first error, when its time is up, or when `closing` is cancelled.
pub(crate) fn response<T: 'static>(
    source: BoxStream<'static, Result<T, Refusal>>,
    words: Words<T>,
    terms: Terms,
    closing: &CancellationToken,
) -> Response {
    let now = Instant::now();
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES / 16);
    frame::message(&mut buffer, |out| out.put_slice(words.start.as_bytes()));
    streamed(Body::from_stream(Events {
        source,
        words,
        buffer,
        keep_alive: tokio::time::interval_at(now + terms.keep_alive, terms.keep_alive),
        deadline: terms.timeout.map(|time| Box::pin(tokio::time::sleep(time))),
        closing: Box::pin(closing.clone().cancelled_owned()),
        over: false,
    }))
}

/// A stream that failed before its first event.
pub(crate) fn refused(refusal: &Refusal) -> Response {
    let mut out = BytesMut::new();
    end(&mut out, Some(refusal));
    streamed(Body::from(out.freeze()))
}

struct Events<T> {
    source: BoxStream<'static, Result<T, Refusal>>,
    words: Words<T>,
    buffer: BytesMut,
    keep_alive: Interval,
    deadline: Option<Pin<Box<Sleep>>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
}

impl<T> Events<T> {
    /// Takes from the source until the buffer is full or the source has nothing more.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while !self.over && self.buffer.len() < CHUNK_BYTES {
            match self.source.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => {
                    (self.words.write)(&mut self.buffer, &event);
                }
                Poll::Ready(Some(Err(refusal))) => self.end(Some(&refusal)),
                Poll::Ready(None) => self.end(None),
                Poll::Pending => break,
            }
        }
    }

    fn end(&mut self, refusal: Option<&Refusal>) {
        end(&mut self.buffer, refusal);
        self.over = true;
    }

    /// What ends it from outside.
    fn watch(&mut self, cx: &mut Context<'_>) {
        let is_late = |sleep: &mut Pin<Box<Sleep>>| sleep.as_mut().poll(cx).is_ready();
        if self.deadline.as_mut().is_some_and(is_late) {
            self.end(Some(&late()));
        } else if self.closing.as_mut().poll(cx).is_ready() {
            let refusal = Refusal::new(Code::Unavailable, "the server is ending");
            self.end(Some(&refusal));
        }
    }
}

/// The time of a call is up.
pub(crate) fn late() -> Refusal {
    Refusal::new(Code::DeadlineExceeded, "the time of this call is up")
}

impl<T> Stream for Events<T> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.fill(cx);
        if !self.over {
            self.watch(cx);
        }
        if self.buffer.is_empty() && !self.over && self.keep_alive.poll_tick(cx).is_ready() {
            let sign = self.words.keep_alive.as_bytes();
            frame::message(&mut self.buffer, |out| out.put_slice(sign));
        }
        if !self.buffer.is_empty() {
            self.keep_alive.reset();
            return Poll::Ready(Some(Ok(self.buffer.split().freeze())));
        }
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}
