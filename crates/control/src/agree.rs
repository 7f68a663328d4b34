//! Store and node brought into agreement: at the start, after every silence, every few seconds, and at every change that a node tells.

use futures::{StreamExt, stream};
use skerry_proto::node::SandboxReport;
use skerry_store::{Change, Deletion, NodeState, Sandbox as Row, StoreError};
use skerry_types::{Error, ErrorCode, FailureReason, Result, SandboxId, SandboxState};

use crate::change::step_when_gone;
use crate::make::{end_on, signed};
use crate::service::SYSTEM;
use crate::{Control, Member};

/// Deletions that were left open and are finished at once.
const DELETIONS_AT_ONCE: usize = 8;

impl Control {
    /// Follows one node until control ends.
    pub(crate) async fn follow(self, member: Member) {
        while !self.0.stop.is_cancelled() {
            // Watched before listed, so that no change falls between.
            let mut changes = member.handle.watch();
            self.probe(&member).await;
            loop {
                let again = self.now() + signed(self.0.settings.resync_every);
                tokio::select! {
                    () = self.0.stop.cancelled() => return,
                    change = changes.next() => match change {
                        Some(Ok(report)) => self.hear(&member, report).await,
                        Some(Err(error)) => {
                            tracing::info!(node = member.facts.name, %error, "changes were missed; listing again");
                            break;
                        }
                        None => {
                            self.0.settings.clock.sleep_until(again).await;
                            break;
                        }
                    },
                    () = self.0.settings.clock.sleep_until(again) => self.probe(&member).await,
                }
            }
        }
    }

    /// Compares everything with the node, and notes whether it answered.
    pub(crate) async fn probe(&self, member: &Member) {
        let expected = self.0.live.settled_on(member.facts.id);
        let compared = match member.handle.list().await {
            Ok(reports) => {
                // Before anything is found again, or planning would lose it again at once.
                self.note(member, NodeState::Online).await;
                // Large, and seldom: not in the future of everybody who waits for this.
                Box::pin(self.agree(member, &expected, &reports)).await
            }
            Err(error) => {
                if error.code == ErrorCode::NodeUnreachable {
                    self.note(member, NodeState::Offline).await;
                }
                Err(error)
            }
        };
        if let Err(error) = compared {
            tracing::warn!(node = member.facts.name, %error, "store and node could not be compared");
        }
        if let Err(error) = self.agree_on_snapshots(member).await {
            tracing::warn!(node = member.facts.name, %error, "snapshots could not be compared");
        }
        if let Err(error) = self.agree_on_volumes(member).await {
            tracing::warn!(node = member.facts.name, %error, "volumes could not be compared");
        }
        if let Err(error) = self.finish_deletions().await {
            tracing::warn!(%error, "open deletions could not be looked up");
        }
        self.0.wake.notify_one();
    }

    /// Notes whether a node answers, here and in the store.
    async fn note(&self, member: &Member, state: NodeState) {
        let (store, node, now) = (&self.0.store, member.facts.id, self.now());
        match state {
            NodeState::Online => self.0.silent.lock().remove(&node),
            _ => Some(*self.0.silent.lock().entry(node).or_insert(now)),
        };
        if let Err(error) = store.set_node_state(&SYSTEM, node, state, now).await {
            tracing::warn!(node = member.facts.name, %error, "the node's state could not be noted");
        }
    }

    /// What a node said just now. While a sandbox is being made, whoever makes it hears how it goes.
    async fn hear(&self, member: &Member, report: SandboxReport) {
        let id = report.id;
        let making = self.0.live.with(id, |entry| {
            let made = matches!(
                report.state,
                SandboxState::Provisioning | SandboxState::Running
            );
            entry.missed |= entry.making.is_some() && !made;
            entry.making.is_some()
        });
        if making != Some(false) {
            return;
        }
        // What was frozen or ended may run again, and an old word overtake a new one: ask.
        let followed = match report.state {
            SandboxState::Deleted => self.apply(&report).await,
            _ => self.apply_latest(member, id).await,
        };
        if let Err(error) = followed {
            tracing::warn!(%id, %error, "a change could not be followed; the next comparison will");
        }
    }

    /// Compares what is on record with what is on the node.
    async fn agree(
        &self,
        member: &Member,
        expected: &[SandboxId],
        reports: &[SandboxReport],
    ) -> Result<()> {
        let mut all = Ok(());
        for report in reports {
            let agreed = match self.0.live.with(report.id, |entry| entry.making.is_some()) {
                Some(true) => Ok(()),
                Some(false) => self.align(member, report).await,
                None => self.sweep(member, report).await,
            };
            // One that resists keeps no other from being looked at.
            all = all.and(agreed.inspect_err(|error| warn(report.id, error)));
        }
        for &id in expected {
            if !reports.iter().any(|report| report.id == id) {
                let agreed = self.gone(member, id).await;
                all = all.and(agreed.inspect_err(|error| warn(id, error)));
            }
        }
        all
    }

    /// One that both know.
    async fn align(&self, member: &Member, report: &SandboxReport) -> Result<()> {
        if report.state == SandboxState::Deleted {
            return self.finish_deletion(report.id).await;
        }
        let is_news = self.0.live.row(report.id).map(|row| row.state) != Some(report.state);
        // The list may be older than what happened since: ask.
        let followed = if is_news {
            self.apply_latest(member, report.id).await
        } else {
            self.apply(report).await
        };
        let row = match followed {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(()),
            // Gone meanwhile: the next comparison sees that.
            Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let runs = matches!(report.state, SandboxState::Running | SandboxState::Paused);
        let told = self.0.live.with(row.id, |entry| entry.telling);
        if row.state == SandboxState::Stopping && runs && told == Some(false) {
            let asked = Some(FailureReason::SandboxStopped);
            let reason = row.failure_reason.filter(|_| row.failure_reason != asked);
            self.tell_to_stop(&row, reason).await;
        }
        Ok(())
    }

    /// One that its node has deleted although nobody asked for that on record.
    async fn finish_deletion(&self, id: SandboxId) -> Result<()> {
        match self.0.live.row(id) {
            Some(row) if !self.0.live.is_leaving(id) => {
                let reason = FailureReason::SandboxDeleted;
                self.remove_unless_busy(&row, reason).await
            }
            _ => Ok(()),
        }
    }

    /// Takes up every deletion that was asked for and is not done, some at a time. One round is enough: what fails has its turn in the next.
    pub(crate) async fn finish_deletions(&self) -> Result<()> {
        let Ok(round) = self.0.finishing.clone().try_lock_owned() else {
            return Ok(());
        };
        let open = self.0.store.open_deletions(&SYSTEM).await?;
        if open.is_empty() {
            return Ok(());
        }
        let control = self.clone();
        self.0.tasks.spawn(async move {
            let finish = |open| control.finish(open);
            stream::iter(open)
                .for_each_concurrent(DELETIONS_AT_ONCE, finish)
                .await;
            drop(round);
        });
        Ok(())
    }

    async fn finish(&self, Deletion { sandbox, reason }: Deletion) {
        if let Err(error) = self.remove_unless_busy(&sandbox, reason).await {
            tracing::warn!(id = %sandbox.id, %error, "it could not be deleted yet");
        }
    }

    /// Removes one that nobody here is at.
    async fn remove_unless_busy(&self, row: &Row, reason: FailureReason) -> Result<()> {
        let turn = self.0.deleting.try_take(row.id);
        if turn.is_none() || !self.0.live.is_idle(row.id) {
            return Ok(());
        }
        self.remove(&row.tenant(), row.id, reason).await.map(drop)
    }

    /// One that has ended on record, or was never there: whatever the node still has of it goes, but for what an ended one leaves.
    async fn sweep(&self, member: &Member, report: &SandboxReport) -> Result<()> {
        let id = report.id;
        // The list may be older than a deletion or an end that has just been.
        let now = match member.handle.get(id).await {
            Ok(report) => report.state,
            Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let row = match self.0.store.sandbox_of_any_org(&SYSTEM, id).await {
            Ok(row) => Some(row).filter(|row| row.state != SandboxState::Deleted),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        // One that is being started again runs before it does so on record.
        let is_fine =
            |row: &Row| !row.state.is_ended() || now.is_ended() || now == SandboxState::Missing;
        if row.as_ref().is_some_and(is_fine) || self.0.live.row(id).is_some() {
            return Ok(());
        }
        tracing::warn!(%id, node = member.facts.name, "removing a sandbox that should not be there");
        match row {
            Some(row) => end_on(member, &row).await,
            None => member.handle.delete(id).await,
        }
    }

    /// One that the node did not list. The list may be older than the sandbox, so the node is asked for this one.
    async fn gone(&self, member: &Member, id: SandboxId) -> Result<()> {
        match member.handle.get(id).await {
            Ok(report) => self.align(member, &report).await,
            Err(error) if error.code == ErrorCode::NotFound => match self.0.live.row(id) {
                Some(row) if self.0.live.is_idle(id) => self.record_gone(&row).await,
                _ => Ok(()),
            },
            Err(error) => Err(error),
        }
    }

    async fn record_gone(&self, row: &Row) -> Result<()> {
        if self.0.live.is_leaving(row.id) {
            // As it was asked to be; whoever finishes the deletion says so.
            return Ok(());
        }
        let Some(action) = step_when_gone(row.state) else {
            return Ok(());
        };
        let (reason, message) = match row.state {
            SandboxState::Provisioning => (
                Some(FailureReason::ProvisionFailed),
                Some("the server went down while it was being made"),
            ),
            SandboxState::Running | SandboxState::Paused => (
                Some(FailureReason::NodeLost),
                Some("its node no longer has it"),
            ),
            _ => (None, None),
        };
        let change = Change {
            reason,
            message: message.map(str::to_owned),
            ..Change::default()
        };
        self.act_from(row, action, &change).await.map(drop)
    }
}

fn warn(id: SandboxId, error: &Error) {
    tracing::warn!(%id, %error, "it does not become what is on record of it");
}
