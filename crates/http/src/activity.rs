//! What a connection is doing, and when its client is let go: one that dawdles soon, one that rests late, and early when others need its place.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Semaphore, watch};

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// To ask for something, once it began to.
    pub(crate) patience: Duration,
    /// To come back, on a connection that it keeps.
    pub(crate) rest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Doing {
    /// Requests in progress: until the last of each answer is on its way.
    requests: usize,
    /// Without one, whether the next is expected or already begins to come.
    asks: bool,
}

/// Of one connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Activity(watch::Sender<Doing>);

impl Activity {
    /// Of a client that has just come, and came to ask for something.
    pub(crate) fn new() -> Self {
        let (sender, _) = watch::channel(Doing {
            requests: 0,
            asks: true,
        });
        Self(sender)
    }

    /// A request has come. It is in progress as long as what is returned is there.
    pub(crate) fn request(&self) -> InProgress {
        self.0.send_modify(|doing| {
            doing.requests += 1;
            doing.asks = false;
        });
        InProgress(self.clone())
    }

    /// Something came while the client rested.
    pub(crate) fn hear(&self) {
        self.0.send_if_modified(|doing| {
            let begins = doing.requests == 0 && !doing.asks;
            doing.asks |= begins;
            begins
        });
    }

    /// Returns when the client is to be let go: it took too long, or takes one of the `wishes`.
    pub(crate) async fn over(&self, limits: Limits, wishes: &Semaphore) -> Over {
        let mut doing = self.0.subscribe();
        loop {
            let now = *doing.borrow_and_update();
            let (limit, over) = match now {
                Doing { asks: true, .. } => (limits.patience, Over::Dawdled),
                Doing { requests: 0, .. } => (limits.rest, Over::Rested),
                // The sender is here, so it does change.
                _ => {
                    let _changed = doing.changed().await;
                    continue;
                }
            };
            tokio::select! {
                _ = doing.changed() => {}
                () = tokio::time::sleep(limit) => return over,
                Ok(wish) = wishes.acquire() => {
                    wish.forget();
                    return over;
                }
            }
        }
    }
}

/// What a client did that is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// It did not get its request out.
    Dawdled,
    /// It had no request.
    Rested,
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct InProgress(Activity);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.0.send_modify(|doing| doing.requests -= 1);
    }
}

impl InProgress {
    /// It is in progress until the last of its answer is on its way.
    pub(crate) fn until_sent(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| {
            Body::new(Answer {
                body,
                _request: self,
            })
        })
    }
}

struct Answer {
    body: Body,
    _request: InProgress,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
