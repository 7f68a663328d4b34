//! The loop that executes plans. It wakes when something happened and when something is due, and never otherwise.

use jiff::SignedDuration;
use skerry_store::{Change, OnTimeout};
use skerry_types::{Action as Step, Error, ErrorCode, FailureReason, NodeId, Result, SandboxId};

use crate::Control;
use crate::make::signed;
use crate::plan::{Action, Plan, SeenNode, Snapshot, plan};
use crate::service::SYSTEM;

/// How long a sandbox rests after a step that failed.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(2);
/// How often old records are cleaned away.
const CLEAN_EVERY: SignedDuration = SignedDuration::from_hours(1);

impl Control {
    /// Plans and executes until control ends.
    pub(crate) async fn reconcile(self) {
        loop {
            let Plan { actions, wake_at } = plan(&self.as_it_is(), self.now());
            for action in actions {
                self.take(action).await;
            }
            let due = async {
                match wake_at {
                    Some(at) => self.0.settings.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = due => {}
            }
        }
    }

    /// What planning looks at.
    fn as_it_is(&self) -> Snapshot {
        let settings = &self.0.settings;
        let silent = self.0.silent.lock();
        let nodes = self.0.nodes.all().iter().map(|member| SeenNode {
            id: member.facts.id,
            slots: member.facts.slots,
            silent_since: silent.get(&member.facts.id).copied(),
        });
        Snapshot {
            nodes: nodes.collect(),
            sandboxes: self.0.live.seen(),
            missing_after: signed(settings.missing_after),
            lost_after: signed(settings.lost_after),
            provision_timeout: signed(settings.provision_timeout),
            stop_timeout: signed(settings.stop_timeout),
            clean_at: *self.0.clean_at.lock(),
        }
    }

    /// What touches only the store is done in order; what talks to a node goes on beside, one step per sandbox at a time.
    async fn take(&self, action: Action) {
        match action {
            Action::Start(node) => self.start_next(node).await,
            Action::Fail(id, reason) => {
                let change = Change {
                    reason: Some(reason),
                    message: Some(why(reason).to_owned()),
                    ..Change::default()
                };
                self.record(id, Step::Fail, &change).await;
            }
            Action::Lose(id) => self.record(id, Step::Lose, &Change::default()).await,
            Action::Clean => {
                *self.0.clean_at.lock() = self.now() + CLEAN_EVERY;
                let control = self.clone();
                self.0.tasks.spawn(async move { control.clean().await });
            }
            Action::Warn(id, _) | Action::Look(id) | Action::End(id, ..) | Action::Kill(id) => {
                self.0.live.with(id, |entry| entry.busy = true);
                let control = self.clone();
                self.0.tasks.spawn(async move {
                    let done = control.step(action).await;
                    control.over(id, done);
                });
            }
        }
    }

    /// The step is over; one that failed is tried again after a rest.
    fn over(&self, id: SandboxId, done: Result<()>) {
        let retry_at = done.err().map(|error| {
            tracing::warn!(%id, %error, "a planned step failed and will be tried again");
            self.now() + RETRY_AFTER
        });
        self.0.live.with(id, |entry| {
            entry.busy = false;
            entry.retry_at = retry_at;
        });
        self.0.wake.notify_one();
    }

    /// Gives the sandbox that has waited longest a place on this node.
    async fn start_next(&self, node: NodeId) {
        let claimed = {
            let _one_at_a_time = self.0.placing.lock().await;
            let claimed = self.0.store.claim_queued(&SYSTEM, node, self.now()).await;
            claimed.map(|row| {
                row.map(|row| {
                    self.know(&row);
                    let making = self.begin_making(row.id);
                    (row, making)
                })
            })
        };
        match claimed {
            Ok(Some((row, making))) => self.make_new(row, making),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the queue could not be served"),
        }
    }

    /// A change of state that nobody outside has to be told of, if the sandbox is still as it was planned for.
    async fn record(&self, id: SandboxId, step: Step, change: &Change) {
        let Some(row) = self.0.live.row(id) else {
            return;
        };
        if let Err(error) = self.act_from(&row, step, change).await {
            self.over(id, Err(error));
        }
    }

    async fn step(&self, action: Action) -> Result<()> {
        match action {
            Action::Warn(id, left) => self.warn(id, left).await,
            Action::Look(id) => self.look(id).await,
            Action::End(id, how, reason) => self.end(id, how, reason).await,
            Action::Kill(id) => self.kill(id).await,
            Action::Start(_) | Action::Fail(..) | Action::Lose(_) | Action::Clean => Ok(()),
        }
    }

    async fn warn(&self, id: SandboxId, left: u64) -> Result<()> {
        let Some(row) = self.0.live.row(id) else {
            return Ok(());
        };
        let mine = self.0.store.mark_ttl_warned(&row.tenant(), id).await?;
        self.0.live.with(id, |entry| entry.row.ttl_warned = true);
        if mine {
            self.member_of(&row)?.handle.warn_ttl(id, left).await?;
        }
        Ok(())
    }

    async fn look(&self, id: SandboxId) -> Result<()> {
        let Some(row) = self.0.live.row(id) else {
            return Ok(());
        };
        let used = self.member_of(&row)?.handle.get(id).await?.last_active_at;
        self.0.live.used(id, used);
        self.0.live.with(id, |entry| entry.looked_at = self.now());
        Ok(self.0.store.touch(&row.tenant(), id, used).await?)
    }

    async fn end(&self, id: SandboxId, how: OnTimeout, reason: FailureReason) -> Result<()> {
        let Some(row) = self.0.live.row(id) else {
            return Ok(());
        };
        // Since it was looked at somebody may have come.
        let unused_since = (reason == FailureReason::IdleTimeout).then_some(row.last_active_at);
        match how {
            OnTimeout::Stop => self.begin_stop(row, reason).await.map(drop),
            OnTimeout::Delete => {
                let _turn = self.0.deleting.take(id).await;
                self.remove(&row.tenant(), id, reason).await.map(drop)
            }
            OnTimeout::Pause => match self.member_of(&row)?.handle.pause(id, unused_since).await {
                Ok(report) => self.apply(&report).await.map(drop),
                // Its time is over, whatever keeps it from sleeping.
                Err(error)
                    if error.code == ErrorCode::Unsupported
                        || reason == FailureReason::TtlExceeded =>
                {
                    tracing::warn!(%id, %error, "it is stopped, since it cannot be paused");
                    self.begin_stop(row, reason).await.map(drop)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Ends what hangs. What has run keeps its files; of what never did nothing stays.
    async fn kill(&self, id: SandboxId) -> Result<()> {
        let Some(row) = self.0.live.row(id) else {
            return Ok(());
        };
        let member = self.member_of(&row)?;
        if row.started_at.is_none() {
            member.handle.delete(id).await?;
            self.act_from(&row, Step::Fail, &provision_failed()).await?;
            return Ok(());
        }
        let report = member.handle.stop(id, row.failure_reason).await?;
        let row = self.apply(&report).await?;
        match row.filter(|row| !row.state.is_ended()) {
            Some(row) => Err(Error::internal(format!("it is still {}", row.state))),
            None => Ok(()),
        }
    }

    /// Forgets what is older than it is kept.
    async fn clean(&self) {
        let now = self.now();
        let before = now - signed(self.0.settings.retention);
        let store = &self.0.store;
        let keys = store.purge_idempotency_keys(&SYSTEM, now).await;
        let rows = store.purge_deleted(&SYSTEM, before).await;
        for forgotten in [keys, rows] {
            if let Err(error) = forgotten {
                tracing::warn!(%error, "old records could not be cleaned away");
            }
        }
        if let Err(error) = self.clean_layers().await {
            tracing::warn!(%error, "layers that nobody needs could not be removed");
        }
        if let Err(error) = self.0.uploads.clean() {
            tracing::warn!(%error, "old uploads could not be removed");
        }
        for member in self.0.nodes.all() {
            if let Err(error) = member.handle.purge_journals(before).await {
                tracing::warn!(node = member.facts.name, %error, "old journals could not be cleaned away");
            }
        }
    }
}

fn provision_failed() -> Change {
    Change {
        reason: Some(FailureReason::ProvisionFailed),
        message: Some("its node did not come to an end with making it".into()),
        ..Change::default()
    }
}

/// A reason that planning gives, for a person.
const fn why(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::QueueTimeout => "every place was taken for as long as it was ready to wait",
        FailureReason::CapacityTimeout => {
            "no node could be reached for as long as it was ready to wait"
        }
        _ => "its node could not be reached for too long",
    }
}
