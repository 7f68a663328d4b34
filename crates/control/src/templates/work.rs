//! Doing a build: in its turn, to its one end, with nothing left but layers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skerry_store::{Build, BuildEnd, Tenant};
use skerry_types::{BuildId, Error, ErrorCode, FailureReason, OrgId, Result, SandboxId};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;

use super::build::BuildRequest;
use super::log::Log;
use super::turns::Turns;
use crate::{Caller, Control};

/// Builds that are worked on at once.
const AT_ONCE: usize = 2;
/// Builds of one org that may wait or be worked on.
const MAX_OPEN: usize = 16;
/// How long a build may be worked on.
const PATIENCE: Duration = Duration::from_hours(1);
/// Before a build's end is written once more.
const END_AGAIN: Duration = Duration::from_secs(5);

/// Builds that have not ended here.
#[derive(Debug)]
pub(crate) struct Builds {
    live: Mutex<HashMap<BuildId, Arc<Live>>>,
    open: Arc<Mutex<HashMap<OrgId, usize>>>,
    turns: Turns,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Live {
    cancel: CancellationToken,
    why: Mutex<Option<&'static str>>,
    /// How many lines its log has. Closed at its end.
    lines: watch::Sender<u64>,
    /// Held while its sandbox is being put on record.
    making: Arc<tokio::sync::Mutex<()>>,
}

/// One org's room for a build, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<Mutex<HashMap<OrgId, usize>>>,
    org: OrgId,
}

/// A build with all that it needs.
pub(super) struct Job {
    pub(super) caller: Caller,
    pub(super) build: Build,
    pub(super) request: BuildRequest,
    pub(super) live: Arc<Live>,
    pub(super) place: Place,
}

impl Default for Builds {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            open: Arc::default(),
            turns: Turns::new(AT_ONCE),
        }
    }
}

impl Builds {
    /// Room for one more, if the org has some.
    pub(super) fn admit(&self, org: OrgId) -> Result<Place> {
        let mut open = self.open.lock();
        let count = open.entry(org).or_default();
        if *count >= MAX_OPEN {
            let text = format!("{MAX_OPEN} builds are waiting or being worked on already");
            return Err(Error::new(ErrorCode::QuotaExceeded, text)
                .with_hint("wait for one, or cancel one")
                .retry_after(10));
        }
        *count += 1;
        Ok(Place {
            open: Arc::clone(&self.open),
            org,
        })
    }

    pub(super) fn begin(&self, id: BuildId) -> Arc<Live> {
        let live = Arc::new(Live {
            cancel: CancellationToken::new(),
            why: Mutex::default(),
            lines: watch::Sender::new(0),
            making: Arc::default(),
        });
        self.live.lock().insert(id, Arc::clone(&live));
        live
    }

    pub(super) fn find(&self, id: BuildId) -> Option<Arc<Live>> {
        self.live.lock().get(&id).cloned()
    }

    /// Ends all of them.
    pub(crate) fn interrupt(&self) {
        for live in self.live.lock().values() {
            live.cancel("interrupted: the server is ending");
        }
    }
}

impl Live {
    pub(super) fn cancel(&self, why: &'static str) {
        self.why.lock().get_or_insert(why);
        self.cancel.cancel();
    }

    /// To be held until the sandbox is on record, so that whoever calls the build off finds it.
    pub(super) async fn making(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.making).lock_owned().await
    }

    /// Changes with each line, and a last time at the end.
    pub(super) fn lines(&self) -> watch::Receiver<u64> {
        self.lines.subscribe()
    }

    pub(super) fn has_lines(&self, seq: u64) {
        self.lines.send_replace(seq);
    }

    /// Returns when it has ended.
    pub(super) async fn ended(self: Arc<Self>) {
        let mut lines = self.lines();
        drop(self);
        while lines.changed().await.is_ok() {}
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.org) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.org);
            }
        }
    }
}

impl Control {
    /// Brings a build to its end, whatever that is.
    pub(super) async fn work_on(self, job: Job) {
        let (id, tenant) = (job.build.id, job.caller.tenant);
        let sandbox = SandboxId::new();
        let mut log = Log::new(self.0.store.clone(), &job);
        let outcome = tokio::select! {
            outcome = self.in_turn(&job, sandbox, &mut log) => outcome,
            () = job.live.cancel.cancelled() => {
                let why = job.live.why.lock().unwrap_or("it was cancelled");
                Err(Error::conflict(why))
            }
        };
        self.clear_away_after(&job, sandbox).await;
        let (end, how) = match outcome {
            Ok(end) => (end, "ready"),
            Err(error) => {
                log.error(&error.message).await;
                (BuildEnd::Error(error.message), "error")
            }
        };
        if self.put_end_on_record(&tenant, id, end).await {
            log.end(how).await;
        }
        drop(job.place);
        // Whoever follows looks once more, and then finds none to wait for.
        self.0.builds.live.lock().remove(&id);
    }

    /// Whoever waits for a build waits for this. A server that ends leaves it to its next start.
    async fn put_end_on_record(&self, tenant: &Tenant, id: BuildId, end: BuildEnd) -> bool {
        let store = &self.0.store;
        while let Err(error) = store.end_build(tenant, id, end.clone(), self.now()).await {
            tracing::error!(%id, %error, "a build's end cannot be put on record yet");
            if self.takes_work().is_err() {
                return false;
            }
            tokio::time::sleep(END_AGAIN).await;
        }
        true
    }

    async fn in_turn(&self, job: &Job, sandbox: SandboxId, log: &mut Log) -> Result<BuildEnd> {
        let _turn = self.0.builds.turns.take(job.build.org_id).await?;
        let store = &self.0.store;
        let started = store.start_build(&job.caller.tenant, job.build.id, self.now());
        started
            .await?
            .ok_or_else(|| Error::conflict("it has ended already"))?;
        let work = self.build_in(job, sandbox, log);
        let Ok(done) = tokio::time::timeout(PATIENCE, work).await else {
            let minutes = PATIENCE.as_secs() / 60;
            return Err(Error::conflict(format!(
                "it took longer than {minutes} min"
            )));
        };
        done
    }

    async fn clear_away_after(&self, job: &Job, sandbox: SandboxId) {
        let _made = job.live.making().await;
        let tenant = &job.caller.tenant;
        let removed = self.remove(tenant, sandbox, FailureReason::SandboxDeleted);
        match removed.await {
            Err(error) if error.code != ErrorCode::NotFound => {
                // It is on record that it has to go, so it will.
                tracing::warn!(%sandbox, %error, "what a build was done in could not be removed yet");
            }
            _ => {}
        }
    }
}
