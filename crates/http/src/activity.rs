//! What a connection is doing, and when its client is let go: one that dawdles soon, one that rests late. Where others need its place, one
//! that rests is let go early, and one that takes no answer too.

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
    /// Those of the requests with which we are busy. The others wait until the client takes what was answered.
    ours: usize,
    /// Grows whenever a request gets on.
    moves: u64,
}

impl Doing {
    /// Whether all that is in progress waits for the client.
    fn waits(&self) -> bool {
        self.requests > 0 && self.ours == 0
    }
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
            ours: 0,
            moves: 0,
        });
        Self(sender)
    }

    /// A request has come. It is in progress as long as what is returned is there.
    pub(crate) fn request(&self) -> InProgress {
        self.0.send_modify(|doing| {
            doing.requests += 1;
            doing.asks = false;
        });
        InProgress {
            activity: self.clone(),
            is_ours: false,
        }
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
                _ => tokio::select! {
                    _ = doing.changed() => continue,
                    () = self.stalls(limits.patience, wishes) => return Over::Stalled,
                },
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

    /// Returns when the client has taken nothing for so long, and others need its place.
    async fn stalls(&self, patience: Duration, wishes: &Semaphore) {
        loop {
            let before = self.0.borrow().moves;
            let stalls = || {
                let now = self.0.borrow();
                now.waits() && now.moves == before
            };
            tokio::time::sleep(patience).await;
            if !stalls() {
                continue;
            }
            // It may take something while it waits for a wish, which is then another's.
            if let Ok(wish) = wishes.acquire().await
                && stalls()
            {
                return wish.forget();
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
    /// It took nothing of what it asked for.
    Stalled,
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct InProgress {
    activity: Activity,
    is_ours: bool,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.leave_to_client();
        self.activity.0.send_modify(|doing| doing.requests -= 1);
    }
}

impl InProgress {
    /// From now on the client waits for us.
    pub(crate) fn take_up(&mut self) {
        if !std::mem::replace(&mut self.is_ours, true) {
            self.move_on(|ours| ours + 1);
        }
    }

    /// From now on we wait for the client.
    fn leave_to_client(&mut self) {
        if std::mem::replace(&mut self.is_ours, false) {
            self.move_on(|ours| ours - 1);
        }
    }

    /// Wakes nobody: it happens with every piece, and is looked at seldom.
    fn move_on(&self, ours: impl FnOnce(usize) -> usize) {
        self.activity.0.send_if_modified(|doing| {
            doing.ours = ours(doing.ours);
            doing.moves += 1;
            false
        });
    }

    /// It is in progress until the last of its answer is on its way.
    pub(crate) fn until_sent(mut self, response: Response<Body>) -> Response<Body> {
        self.leave_to_client();
        response.map(|body| {
            Body::new(Answer {
                body,
                request: self,
            })
        })
    }
}

struct Answer {
    body: Body,
    request: InProgress,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Whoever asks for more has room for it.
        self.request.take_up();
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.request.leave_to_client();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
