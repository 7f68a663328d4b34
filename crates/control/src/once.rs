//! Mutations that are done once per idempotency key, however often they are asked for.

use std::time::Duration;

use sha2::{Digest, Sha256};
use skerry_store::{Begun, Claim};
use skerry_types::{Error, ErrorCode, FailureReason, Result, SandboxId};
use uuid::Uuid;

use crate::{Caller, Control, Reply, Sandbox};

/// One try at a mutation that makes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The id of what it makes, whichever kind of id that is.
    pub id: Uuid,
    /// A server died in the middle of an earlier attempt: there may be something with this id already.
    pub again: bool,
}

impl Attempt {
    /// The first try at something.
    pub fn first() -> Self {
        Self {
            id: Uuid::now_v7(),
            again: false,
        }
    }

    /// The ids of several things that it makes.
    pub(crate) fn ids(self, count: u32) -> impl Iterator<Item = Uuid> {
        let first = self.id.as_u128();
        (0..u128::from(count)).map(move |n| Uuid::from_u128(first.wrapping_add(n)))
    }

    /// What an earlier attempt made, as `look` finds it; `None` if it came to nothing.
    pub async fn earlier<T>(self, look: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        if !self.again {
            return Ok(None);
        }
        match look.await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The sandbox that an earlier attempt made, as [`Attempt::earlier`]. One that came to nothing with its server is a passing error, after
    /// which the key is free: the next request under it makes another.
    pub async fn earlier_sandbox(
        self,
        control: &Control,
        caller: &Caller,
    ) -> Result<Option<Sandbox>> {
        let id = SandboxId::from_uuid(self.id);
        match self.earlier(control.get(caller, id)).await? {
            Some(made) if made.failure_reason == Some(FailureReason::ProvisionFailed) => {
                let text =
                    format!("sandbox {id} could not be made: the server went down meanwhile");
                Err(Error::new(ErrorCode::ServiceUnavailable, text)
                    .with_hint("send the same request again")
                    .retry_after(1))
            }
            found => Ok(found),
        }
    }
}

/// How long a second request waits for the first.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_KEY: usize = 255;
/// Longer answers are not kept: what they are of is found again by its id.
const MAX_KEPT: usize = 16 * 1024;

impl Control {
    /// Runs a mutation once per key and 24 hours: the same key and request again get the same 2xx answer; while the first one still runs they
    /// wait for it, up to a bound; another request under the same key is a conflict. `request` is whatever makes it this request (method, path, body).
    /// The work runs to its end even if the caller goes away. If the server dies before that, or the answer is too long to be kept, the same request
    /// begins it again, with the same id.
    pub async fn once<W, F>(
        &self,
        caller: &Caller,
        key: &str,
        request: &[u8],
        work: W,
    ) -> Result<Reply>
    where
        W: FnOnce(Attempt) -> F,
        F: Future<Output = Reply> + Send + 'static,
    {
        if key.is_empty() || key.len() > MAX_KEY || key.contains('\0') {
            return Err(Error::validation(format!(
                "Idempotency-Key must have 1 to {MAX_KEY} bytes and no NUL"
            )));
        }
        let hash = Sha256::digest(request).into();
        let turn = tokio::time::timeout(PATIENCE, self.turn(caller, key, hash)).await;
        match turn.unwrap_or_else(|_| Err(in_progress()))? {
            Turn::First(claim) => {
                let control = self.clone();
                let work = work(Attempt {
                    id: claim.id,
                    again: claim.again,
                });
                self.detached(async move { control.answer(claim, work).await })
                    .await
            }
            Turn::Again(reply) => Ok(reply),
        }
    }

    /// Waits until it is known whether this request is the first with its key.
    async fn turn(&self, caller: &Caller, key: &str, hash: [u8; 32]) -> Result<Turn> {
        loop {
            let answered = self.0.answered.notified();
            tokio::pin!(answered);
            // Listening before looking, so that no answer falls between.
            answered.as_mut().enable();
            let (store, replica) = (&self.0.store, &self.0.settings.replica);
            match store
                .begin_idempotent(&caller.tenant, key, hash, replica, self.now())
                .await?
            {
                Begun::First(claim) => return Ok(Turn::First(claim)),
                Begun::Replay { status, body } => {
                    return Ok(Turn::Again(Reply {
                        status,
                        body: String::from_utf8_lossy(&body).into_owned(),
                        replayed: true,
                    }));
                }
                Begun::OtherRequest => {
                    return Err(Error::conflict(
                        "this Idempotency-Key was used for a different request",
                    )
                    .with_hint("use a new key for a new request"));
                }
                Begun::InProgress => answered.await,
            }
        }
    }

    async fn answer<F>(&self, claim: Claim, work: F) -> Result<Reply>
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let reply = tokio::spawn(work).await;
        let kept = match &reply {
            Ok(reply) if reply.body.len() > MAX_KEPT => {
                self.0.store.release_idempotent(claim).await
            }
            Ok(reply) => {
                let body = reply.body.as_bytes();
                self.0
                    .store
                    .finish_idempotent(claim, reply.status, body)
                    .await
            }
            Err(_) => self.0.store.abandon_idempotent(claim).await,
        };
        self.0.answered.notify_waiters();
        if let Err(error) = kept {
            tracing::error!(%error, "an answer could not be kept for its idempotency key");
        }
        reply.map_err(|_| Error::internal("the operation broke off"))
    }
}

enum Turn {
    First(Claim),
    Again(Reply),
}

fn in_progress() -> Error {
    Error::conflict("the first request with this Idempotency-Key has no answer yet")
        .with_hint("look at the list of sandboxes, or try again later with the same key")
        .retry_after(1)
}
