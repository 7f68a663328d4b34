//! What callers may do to a sandbox while it lives: stop it, freeze it, give it more time.

use jiff::Timestamp;
use skerry_proto::node::SandboxReport;
use skerry_store::{Change, Sandbox as Row, Times};
use skerry_types::{Action, Error, FailureReason, Result, SandboxId, SandboxState};

use crate::live::seconds;
use crate::read::not_running;
use crate::validate;
use crate::{Caller, Control, Sandbox, TimeoutRequest};

impl Control {
    /// Begins to stop it. Returns at once: `stopping`, or how it had ended before.
    pub async fn stop(&self, caller: &Caller, id: SandboxId) -> Result<Sandbox> {
        let row = self.0.store.sandbox(&caller.tenant, id).await?;
        let control = self.clone();
        let reason = FailureReason::SandboxStopped;
        let row = self
            .detached(async move { control.begin_stop(row, reason).await })
            .await?;
        Ok(self.view(row))
    }

    /// Puts it on record as stopping and tells its node. A node that cannot be told now is told by the reconciler.
    pub(crate) async fn begin_stop(&self, row: Row, reason: FailureReason) -> Result<Row> {
        if row.state.is_ended() || row.state == SandboxState::Stopping {
            return Ok(row);
        }
        let change = Change {
            reason: Some(reason),
            ..Change::default()
        };
        let id = row.id;
        self.0.live.with(id, |entry| entry.telling = true);
        let recorded = self.act(&row.tenant(), id, Action::Stop, &change).await;
        let asked = reason == FailureReason::SandboxStopped;
        let control = self.clone();
        let stopping = recorded.as_ref().ok().cloned();
        self.0.tasks.spawn(async move {
            if let Some(row) = stopping.filter(|row| row.state == SandboxState::Stopping) {
                control.tell_to_stop(&row, (!asked).then_some(reason)).await;
            }
            control.0.live.with(id, |entry| entry.telling = false);
        });
        recorded
    }

    /// Tells the node of a sandbox that is stopping on record.
    pub(crate) async fn tell_to_stop(&self, row: &Row, reason: Option<FailureReason>) {
        let told = match self.member_of(row) {
            Ok(member) => member.handle.stop(row.id, reason).await,
            Err(error) => Err(error),
        };
        let followed = match told {
            Ok(report) => self.apply(&report).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            tracing::warn!(id = %row.id, %error, "its node could not be told to stop it yet");
        }
    }

    /// Freezes it.
    pub async fn pause(&self, caller: &Caller, id: SandboxId) -> Result<Sandbox> {
        let row = self.0.store.sandbox(&caller.tenant, id).await?;
        match row.state {
            SandboxState::Paused => return Ok(self.view(row)),
            SandboxState::Running => {}
            state => return Err(not_running(id, state)),
        }
        let control = self.clone();
        self.detached(async move {
            let report = control.member_of(&row)?.handle.pause(id, None).await?;
            control.follow_report(row, &report).await
        })
        .await
    }

    /// Thaws it.
    pub async fn resume(&self, caller: &Caller, id: SandboxId) -> Result<Sandbox> {
        let row = self.0.store.sandbox(&caller.tenant, id).await?;
        match row.state {
            SandboxState::Running => return Ok(self.view(row)),
            SandboxState::Paused => {}
            state => {
                return Err(Error::conflict(format!(
                    "sandbox {id} is {state}; only a paused one can be resumed"
                )));
            }
        }
        let control = self.clone();
        self.detached(async move {
            let report = control.member_of(&row)?.handle.resume(id).await?;
            control.follow_report(row, &report).await
        })
        .await
    }

    pub(crate) async fn follow_report(&self, row: Row, report: &SandboxReport) -> Result<Sandbox> {
        let now = self.apply(report).await?;
        Ok(self.view(now.unwrap_or(row)))
    }

    /// Changes when it ends, counted from now and within the org's largest age, and what happens then.
    pub async fn set_timeout(
        &self,
        caller: &Caller,
        id: SandboxId,
        request: TimeoutRequest,
    ) -> Result<Sandbox> {
        let row = self.0.store.sandbox(&caller.tenant, id).await?;
        if request == TimeoutRequest::default() {
            return Err(Error::validation(
                "give at least one of ttl_seconds, idle_seconds, on_timeout, on_idle and auto_resume",
            ));
        }
        if row.state.is_ended() || row.state == SandboxState::Stopping {
            return Err(not_running(id, row.state));
        }
        let ttl = match request.ttl_seconds {
            Some(ttl) => {
                let max = self.quotas(caller).await?.max_ttl_seconds;
                let age = self.counted_age(&row);
                let left = validate::ttl(ttl, max.saturating_sub(age))?;
                let end = self.new_end(&row, left);
                Some(end).filter(|end| !request.only_longer || is_later(end, &row))
            }
            None => None,
        };
        if let Some(auto_resume) = request.auto_resume {
            self.tell_auto_resume(&row, auto_resume).await?;
        }
        let times = Times {
            ttl,
            idle_seconds: request.idle_seconds.map(validate::idle).transpose()?,
            on_timeout: request.on_timeout,
            on_idle: request.on_idle,
            auto_resume: request.auto_resume,
        };
        let row = self.set_times(&row, times).await?;
        Ok(self.view(row))
    }

    /// Its node must know; one that has no place yet gets there with it.
    async fn tell_auto_resume(&self, row: &Row, auto_resume: bool) -> Result<()> {
        match row.state {
            SandboxState::Queued => Ok(()),
            SandboxState::Running | SandboxState::Paused => {
                let node = self.member_of(row)?.handle;
                node.set_auto_resume(row.id, auto_resume).await
            }
            state => Err(not_running(row.id, state)),
        }
    }

    /// One that was frozen because of its age, and runs again, gets as much time again.
    pub(crate) async fn more_time(&self, row: Row) -> Result<Row> {
        if row.expires_at.is_none_or(|at| at > self.now()) {
            return Ok(row);
        }
        let times = Times {
            ttl: Some((row.ttl_seconds, Some(self.now() + seconds(row.ttl_seconds)))),
            ..Times::default()
        };
        self.set_times(&row, times).await
    }

    /// Its age as it counts against the org's largest: since it was last resumed, and none while it is paused.
    fn counted_age(&self, row: &Row) -> u32 {
        match row.resumed_at.or(row.started_at) {
            Some(since) if row.state != SandboxState::Paused => self.age(since),
            _ => 0,
        }
    }

    /// Whole seconds since then.
    fn age(&self, since: Timestamp) -> u32 {
        let age = self.now().duration_since(since).as_secs();
        u32::try_from(age).unwrap_or(0)
    }

    /// The age limit so many seconds from now, and when that is; before it runs, nobody knows when.
    fn new_end(&self, row: &Row, left: u32) -> (u32, Option<Timestamp>) {
        match row.started_at {
            Some(started) => (
                self.age(started).saturating_add(left),
                Some(self.now() + seconds(left)),
            ),
            None => (left, None),
        }
    }

    async fn set_times(&self, row: &Row, times: Times) -> Result<Row> {
        let store = &self.0.store;
        let row = store
            .set_timeout(&row.tenant(), row.id, times, self.now())
            .await?;
        self.know(&row);
        Ok(row)
    }

    /// Says that it is in use. 409 when it does not run.
    pub async fn ping(&self, caller: &Caller, id: SandboxId) -> Result<()> {
        let node = self.authorize(caller, id, crate::Need::Running).await?;
        node.touch(id).await?;
        let now = self.now();
        self.0.live.used(id, now);
        Ok(self.0.store.touch(&caller.tenant, id, now).await?)
    }

    /// Notes that a sandbox is in use by something the node does not see; tells the node at most once a second.
    pub fn touch(&self, id: SandboxId) {
        let now = self.now();
        let Some(node) = self.0.live.touch(id, now) else {
            return;
        };
        self.0.live.used(id, now);
        let Some(member) = self.0.nodes.get(node).cloned() else {
            return;
        };
        self.0.tasks.spawn(async move {
            if let Err(error) = member.handle.touch(id).await {
                tracing::debug!(%id, %error, "its node could not be told that it is in use");
            }
        });
    }
}

/// Whether this age limit comes after the one that the sandbox has.
fn is_later(&(ttl, end): &(u32, Option<Timestamp>), row: &Row) -> bool {
    match (end, row.expires_at) {
        (Some(end), Some(known)) => end > known,
        _ => ttl > row.ttl_seconds,
    }
}
