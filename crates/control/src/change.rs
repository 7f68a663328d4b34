//! The one place where states change: in the store first, then in memory.

use skerry_proto::node::SandboxReport;
use skerry_store::{Cas, Change, Facts, Privilege, Sandbox as Row, Tenant};
use skerry_types::{Action, Result, SandboxId, SandboxState};

use crate::{Control, Member};

impl Control {
    /// Lets something happen to a sandbox, whatever its state has become meanwhile, if it can happen to that.
    ///
    /// One that has not ended is known here, and nearly always as it is: then the store need not be read first.
    pub(crate) async fn act(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        action: Action,
        change: &Change,
    ) -> Result<Row> {
        let turn = self.0.live.turn(id);
        let _held = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        match self.0.live.row(id).filter(|row| row.tenant() == *tenant) {
            Some(known) => self.act_on(&known, action, change).await,
            None => self.act_in_turn(tenant, id, action, change).await,
        }
    }

    async fn act_in_turn(
        &self,
        tenant: &Tenant,
        id: SandboxId,
        action: Action,
        change: &Change,
    ) -> Result<Row> {
        let store = &self.0.store;
        let row = store.act(tenant, id, action, change, self.now()).await?;
        self.know(&row);
        Ok(row)
    }

    /// The same for one whose row is known.
    async fn act_on(&self, known: &Row, action: Action, change: &Change) -> Result<Row> {
        let (store, tenant, now) = (&self.0.store, known.tenant(), self.now());
        match store
            .transition(&tenant, known, action, change, now)
            .await?
        {
            Cas::Done(row) => {
                self.know(&row);
                Ok(row)
            }
            Cas::Stale(_) => self.act_in_turn(&tenant, known.id, action, change).await,
        }
    }

    /// Lets something happen to a sandbox only if it is still as in `before`; otherwise the row as it is now.
    pub(crate) async fn act_from(
        &self,
        before: &Row,
        action: Action,
        change: &Change,
    ) -> Result<Row> {
        let turn = self.0.live.turn(before.id);
        let _held = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let (store, now) = (&self.0.store, self.now());
        let tenant = before.tenant();
        let (Cas::Done(row) | Cas::Stale(row)) = store
            .transition(&tenant, before, action, change, now)
            .await?;
        self.know(&row);
        Ok(row)
    }

    /// Follows what a node says of a sandbox that has not ended; `None` if it has, or nobody knows it.
    pub(crate) async fn apply(&self, report: &SandboxReport) -> Result<Option<Row>> {
        let Some(turn) = self.0.live.turn(report.id) else {
            return Ok(None);
        };
        let _held = turn.lock().await;
        self.apply_in_turn(report).await
    }

    /// The same of what the node says once it is this one's turn: what was said before cannot be applied after it.
    pub(crate) async fn apply_latest(&self, member: &Member, id: SandboxId) -> Result<Option<Row>> {
        let Some(turn) = self.0.live.turn(id) else {
            return Ok(None);
        };
        let _held = turn.lock().await;
        let report = member.handle.get(id).await?;
        self.apply_in_turn(&report).await
    }

    async fn apply_in_turn(&self, report: &SandboxReport) -> Result<Option<Row>> {
        let known = self
            .0
            .live
            .with(report.id, |e| (e.row.clone(), e.leaving.is_some()));
        let Some((mut row, leaving)) = known else {
            return Ok(None);
        };
        if leaving {
            return Ok(Some(row));
        }
        let change = change_of(report);
        for &action in steps(row.state, row.started_at.is_some(), report.state) {
            if action == Action::Resume {
                row = self.more_time(row).await?;
            }
            row = self.act_on(&row, action, &change).await?;
        }
        self.0.live.used(report.id, report.last_active_at);
        Ok(Some(row))
    }

    /// Takes over a row that was just read or written.
    pub(crate) fn know(&self, row: &Row) {
        self.0.live.update(row);
        self.0.wake.notify_one();
    }
}

/// What a report changes beside the state.
fn change_of(report: &SandboxReport) -> Change {
    let facts = report.facts.clone().map_or_else(Facts::default, |f| Facts {
        driver: Some(f.driver),
        isolation: Some(f.isolation),
        accelerator: f.accelerator,
        privilege: Privilege::from_name(&f.privilege),
        storage: Some(f.storage),
        disk_quota: Some(f.disk_quota),
        limits: Some(f.limits),
        image_digest: Some(f.image_digest),
        fork_kind: f.fork,
        boot_us: report.boot_us.and_then(|us| us.try_into().ok()),
        published: Some(f.published),
    });
    Change {
        reason: report.reason,
        message: report.message.clone(),
        facts,
    }
}

/// What must have happened to a sandbox that was `known` to be in one state, when its node says that it is in another.
///
/// One that `ran` before has ended as it had before somebody started it again.
/// Nothing, where the record is ahead of the node: a sandbox that is stopping on record was asked to stop, whatever an older report says.
/// Deleted is nothing either: only control deletes, and it knows when it does.
const fn steps(known: SandboxState, ran: bool, said: SandboxState) -> &'static [Action] {
    use Action as A;
    use SandboxState as S;
    match (known, said) {
        (S::Provisioning, S::Running) => &[A::Ready],
        (S::Provisioning, S::Paused) => &[A::Ready, A::Pause],
        (S::Provisioning, S::Stopping) => &[A::Ready, A::Stop],
        (S::Provisioning, S::Stopped) if ran => &[A::Ended],
        (S::Provisioning, S::Stopped) => &[A::Ready, A::Stop, A::Ended],
        (S::Running, S::Paused) => &[A::Pause],
        (S::Paused, S::Running) => &[A::Resume],
        (S::Running | S::Paused, S::Stopping) => &[A::Stop],
        (S::Running | S::Paused, S::Stopped) => &[A::Stop, A::Ended],
        (S::Stopping | S::Missing, S::Stopped) => &[A::Ended],
        (S::Provisioning | S::Running | S::Paused | S::Stopping, S::Missing) => &[A::Lose],
        (S::Missing, S::Running) => &[A::Find],
        (S::Missing, S::Paused) => &[A::Find, A::Pause],
        (S::Missing, S::Stopping) => &[A::Find, A::Stop],
        (S::Provisioning | S::Running | S::Paused | S::Stopping | S::Missing, S::Failed) => {
            &[A::Fail]
        }
        _ => &[],
    }
}

/// What must have happened to a sandbox of which its node has nothing.
pub(crate) const fn step_when_gone(known: SandboxState) -> Option<Action> {
    use SandboxState as S;
    match known {
        S::Provisioning | S::Running | S::Paused => Some(Action::Fail),
        S::Stopping | S::Missing => Some(Action::Ended),
        S::Queued | S::Stopped | S::Failed | S::Deleted => None,
    }
}

#[cfg(test)]
mod tests {
    use skerry_types::state;

    use super::*;

    #[test]
    fn every_step_is_legal_and_leads_to_what_the_node_said() {
        for known in SandboxState::ALL {
            for said in SandboxState::ALL {
                for ran in [false, true] {
                    let steps = steps(known, ran, said);
                    let end = steps
                        .iter()
                        .try_fold(known, |state, &action| state::next(state, action));
                    let end = end.unwrap();
                    assert!(steps.is_empty() || end == said, "{known} {said}");
                }
            }
            if let Some(action) = step_when_gone(known) {
                assert!(state::next(known, action).unwrap().is_ended());
            }
        }
    }
}
