//! What to do now, as a pure function of what is known and the time. Executing it is dumb.
//!
//! Level-triggered: a plan says what the snapshot lacks, whatever happened before, so it is the same after a crash, a lost message and on the
//! happy path.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use skerry_store::OnTimeout;
use skerry_types::{FailureReason, NodeId, SandboxId, SandboxState, limits};

/// One sandbox that has not ended, as far as planning cares.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Which.
    pub(crate) id: SandboxId,
    /// Where it is in its life.
    pub(crate) state: SandboxState,
    /// Since when.
    pub(crate) since: Timestamp,
    /// Its node.
    pub(crate) node: Option<NodeId>,
    /// When its time in the queue is over.
    pub(crate) queue_until: Timestamp,
    /// When it reaches its age limit.
    pub(crate) expires_at: Option<Timestamp>,
    /// It was warned of that.
    pub(crate) warned: bool,
    /// How long it may be unused.
    pub(crate) idle: Option<SignedDuration>,
    /// When it was last used, as far as known.
    pub(crate) last_active_at: Timestamp,
    /// When its node was last asked for that.
    pub(crate) looked_at: Timestamp,
    /// What happens at its age limit.
    pub(crate) on_timeout: OnTimeout,
    /// What happens at its idle limit.
    pub(crate) on_idle: OnTimeout,
    /// Paused, its age limit does not count.
    pub(crate) keep_paused: bool,
    /// Something is being done to it.
    pub(crate) busy: bool,
    /// After a failed try: not before this.
    pub(crate) retry_at: Option<Timestamp>,
}

/// One node, as far as planning cares.
#[derive(Debug, Clone)]
pub(crate) struct SeenNode {
    /// Which.
    pub(crate) id: NodeId,
    /// Sandboxes it may hold.
    pub(crate) slots: u32,
    /// Since when it does not answer.
    pub(crate) silent_since: Option<Timestamp>,
}

/// Everything that a plan depends on, but the time.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Those that have not ended, oldest first.
    pub(crate) sandboxes: Vec<Seen>,
    /// The nodes.
    pub(crate) nodes: Vec<SeenNode>,
    /// Silent for this long: sandboxes are missing.
    pub(crate) missing_after: SignedDuration,
    /// Silent for this long: sandboxes are lost.
    pub(crate) lost_after: SignedDuration,
    /// Provisioning for this long, and nobody here is making it: removed hard.
    pub(crate) provision_timeout: SignedDuration,
    /// Stopping for this long: removed hard.
    pub(crate) stop_timeout: SignedDuration,
    /// When old records are next to be cleaned away.
    pub(crate) clean_at: Timestamp,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Give the one that has waited longest a place on this node.
    Start(NodeId),
    /// It will not come to anything.
    Fail(SandboxId, FailureReason),
    /// Tell it that it has so many seconds left.
    Warn(SandboxId, u64),
    /// Ask its node when it was last used.
    Look(SandboxId),
    /// It reached a limit.
    End(SandboxId, OnTimeout, FailureReason),
    /// It hangs where it should not stay.
    Kill(SandboxId),
    /// Its node is silent.
    Lose(SandboxId),
    /// Clean away old records.
    Clean,
}

/// What to do now, and when to think again if nothing happens before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The steps, in order.
    pub(crate) actions: Vec<Action>,
    /// The next time that something is due.
    pub(crate) wake_at: Option<Timestamp>,
}

/// What to do about `snapshot` at the time `now`.
pub(crate) fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let mut planner = Planner {
        snapshot,
        now,
        free: free_slots(snapshot),
        plan: Plan::default(),
    };
    for sandbox in &snapshot.sandboxes {
        planner.consider(sandbox);
    }
    if planner.is_due(snapshot.clean_at) {
        planner.push(Action::Clean);
    }
    planner.plan
}

/// Slots that are left on each node that answers.
fn free_slots(snapshot: &Snapshot) -> HashMap<NodeId, u32> {
    let mut free: HashMap<NodeId, u32> = snapshot
        .nodes
        .iter()
        .filter(|n| n.silent_since.is_none())
        .map(|n| (n.id, n.slots))
        .collect();
    for node in snapshot
        .sandboxes
        .iter()
        .filter(|s| s.state.holds_slot())
        .filter_map(|s| s.node)
    {
        if let Some(slots) = free.get_mut(&node) {
            *slots = slots.saturating_sub(1);
        }
    }
    free
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    free: HashMap<NodeId, u32>,
    plan: Plan,
}

impl Planner<'_> {
    fn push(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    /// Whether this time has come; if not, the plan is looked at again then.
    fn is_due(&mut self, at: Timestamp) -> bool {
        if at <= self.now {
            return true;
        }
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |wake| wake.min(at)));
        false
    }

    fn consider(&mut self, sandbox: &Seen) {
        let resting = sandbox.retry_at.is_some_and(|at| !self.is_due(at));
        if sandbox.busy || resting || self.silence(sandbox) {
            return;
        }
        match sandbox.state {
            SandboxState::Queued => self.queued(sandbox),
            SandboxState::Running => self.running(sandbox),
            SandboxState::Paused => self.paused(sandbox),
            SandboxState::Provisioning => self.stuck(sandbox, self.snapshot.provision_timeout),
            SandboxState::Stopping => self.stuck(sandbox, self.snapshot.stop_timeout),
            SandboxState::Missing
            | SandboxState::Stopped
            | SandboxState::Failed
            | SandboxState::Deleted => {}
        }
    }

    /// Whether its node is silent, which is all that can be said of it then.
    fn silence(&mut self, sandbox: &Seen) -> bool {
        let node = self
            .snapshot
            .nodes
            .iter()
            .find(|n| Some(n.id) == sandbox.node);
        let Some(since) = node.and_then(|n| n.silent_since) else {
            return false;
        };
        let lost = self.is_due(since + self.snapshot.lost_after);
        let missing = self.is_due(since + self.snapshot.missing_after);
        match sandbox.state {
            SandboxState::Missing if lost => {
                self.push(Action::Fail(sandbox.id, FailureReason::NodeLost));
            }
            SandboxState::Missing => {}
            _ if missing => self.push(Action::Lose(sandbox.id)),
            _ => {}
        }
        true
    }

    /// The store keeps the order of the queue; here it is only counted how many of it fit.
    fn queued(&mut self, sandbox: &Seen) {
        if self.is_due(sandbox.queue_until) {
            let reason = if self.free.is_empty() {
                FailureReason::CapacityTimeout
            } else {
                FailureReason::QueueTimeout
            };
            self.push(Action::Fail(sandbox.id, reason));
        } else if let Some((node, slots)) = self.free.iter_mut().max_by_key(|(_, slots)| **slots)
            && *slots > 0
        {
            *slots -= 1;
            let start = Action::Start(*node);
            self.push(start);
        }
    }

    fn running(&mut self, sandbox: &Seen) {
        if let Some(expires) = sandbox.expires_at {
            if self.is_due(expires) {
                self.end(sandbox, FailureReason::TtlExceeded);
                return;
            }
            let warning = SignedDuration::from_secs(limits::TTL_WARNING_SECONDS as i64);
            if !sandbox.warned && self.is_due(expires - warning) {
                let left = expires.duration_since(self.now).as_secs_f64().ceil() as u64;
                self.push(Action::Warn(sandbox.id, left));
            }
        }
        let Some(idle) = sandbox.idle else { return };
        let idle_at = sandbox.last_active_at + idle;
        if !self.is_due(idle_at) {
            return;
        }
        // Only the node knows; what we heard last may be old.
        if sandbox.looked_at < idle_at {
            self.push(Action::Look(sandbox.id));
        } else {
            self.end(sandbox, FailureReason::IdleTimeout);
        }
    }

    fn end(&mut self, sandbox: &Seen, reason: FailureReason) {
        let how = match reason {
            FailureReason::IdleTimeout => sandbox.on_idle,
            _ => sandbox.on_timeout,
        };
        self.push(Action::End(sandbox.id, how, reason));
    }

    /// Frozen is as ended as `pause` asks for; the other two still come at the age limit.
    fn paused(&mut self, sandbox: &Seen) {
        if !sandbox.keep_paused
            && sandbox.on_timeout != OnTimeout::Pause
            && sandbox.expires_at.is_some_and(|at| self.is_due(at))
        {
            self.end(sandbox, FailureReason::TtlExceeded);
        }
    }

    fn stuck(&mut self, sandbox: &Seen, patience: SignedDuration) {
        if self.is_due(sandbox.since + patience) {
            self.push(Action::Kill(sandbox.id));
        }
    }
}

#[cfg(test)]
mod cases;
