//! The life of a sandbox as one pure function. Nothing else changes a state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// Accepted, waiting for a place to run.
    Queued,
    /// A node is making it.
    Provisioning,
    /// Ready for work.
    Running,
    /// Frozen; keeps its memory or its snapshot, uses no CPU.
    Paused,
    /// Asked to end; processes are being told.
    Stopping,
    /// Ended; its record and journal stay.
    Stopped,
    /// Ended by something that should not have happened.
    Failed,
    /// Its node cannot be reached; may come back.
    Missing,
    /// Gone, with all it had on the host.
    Deleted,
}

impl SandboxState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Provisioning,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
        Self::Missing,
        Self::Deleted,
    ];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::Deleted => "deleted",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// No process of it runs, and none will unless it is started again.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Deleted)
    }

    /// It holds, or is about to hold, a place on a node.
    pub const fn holds_slot(self) -> bool {
        matches!(
            self,
            Self::Provisioning | Self::Running | Self::Paused | Self::Stopping | Self::Missing
        )
    }
}

impl fmt::Display for SandboxState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can happen to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A node took it.
    Provision,
    /// The agent inside answered.
    Ready,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// Ask it to end.
    Stop,
    /// Its processes are gone, as asked, or did not come to be when it was started again.
    Ended,
    /// Something broke; carries on as [`SandboxState::Failed`].
    Fail,
    /// Its node went silent.
    Lose,
    /// Its node came back and it still runs.
    Find,
    /// Remove it.
    Delete,
    /// Begin again with the files that it had.
    Start,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 11] = [
        Self::Provision,
        Self::Ready,
        Self::Pause,
        Self::Resume,
        Self::Stop,
        Self::Ended,
        Self::Fail,
        Self::Lose,
        Self::Find,
        Self::Delete,
        Self::Start,
    ];
}

/// The action does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox that is {from} cannot {action:?}")]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: SandboxState,
    /// What was asked.
    pub action: Action,
}

/// The state after `action`, or why there is none.
///
/// Asking for what already is (stop a stopped one, start a running one) is allowed and changes nothing.
pub const fn next(from: SandboxState, action: Action) -> Result<SandboxState, IllegalTransition> {
    use Action as A;
    use SandboxState as S;
    Ok(match (from, action) {
        (S::Queued, A::Provision) | (S::Stopped | S::Failed, A::Start) => S::Provisioning,
        (S::Provisioning, A::Ready) | (S::Paused, A::Resume) | (S::Missing, A::Find) => S::Running,
        (S::Running, A::Pause) => S::Paused,
        (S::Running | S::Paused | S::Stopping, A::Stop) => S::Stopping,
        (S::Queued, A::Stop) | (S::Provisioning | S::Stopping | S::Missing, A::Ended) => S::Stopped,
        (S::Stopped | S::Failed | S::Deleted, A::Stop)
        | (S::Provisioning | S::Running, A::Start) => from,
        (
            S::Queued | S::Provisioning | S::Running | S::Paused | S::Stopping | S::Missing,
            A::Fail,
        ) => S::Failed,
        (S::Provisioning | S::Running | S::Paused | S::Stopping, A::Lose) => S::Missing,
        (_, A::Delete) => S::Deleted,
        _ => return Err(IllegalTransition { from, action }),
    })
}

/// Why a sandbox failed, or why it was stopped without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// No node had room in time.
    CapacityTimeout,
    /// Its node went away for good.
    NodeLost,
    /// It could not be made.
    ProvisionFailed,
    /// Someone stopped it.
    SandboxStopped,
    /// Someone deleted it.
    SandboxDeleted,
    /// It reached its age limit.
    TtlExceeded,
    /// Nothing used it for too long.
    IdleTimeout,
    /// It waited in the queue for too long.
    QueueTimeout,
    /// Its PID 1 died without being asked.
    AgentLost,
    /// It wrote more than its record may hold.
    RecordFull,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::CapacityTimeout,
        Self::NodeLost,
        Self::ProvisionFailed,
        Self::SandboxStopped,
        Self::SandboxDeleted,
        Self::TtlExceeded,
        Self::IdleTimeout,
        Self::QueueTimeout,
        Self::AgentLost,
        Self::RecordFull,
    ];

    /// The name on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CapacityTimeout => "capacity_timeout",
            Self::NodeLost => "node_lost",
            Self::ProvisionFailed => "provision_failed",
            Self::SandboxStopped => "sandbox_stopped",
            Self::SandboxDeleted => "sandbox_deleted",
            Self::TtlExceeded => "ttl_exceeded",
            Self::IdleTimeout => "idle_timeout",
            Self::QueueTimeout => "queue_timeout",
            Self::AgentLost => "agent_lost",
            Self::RecordFull => "record_full",
        }
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Action as A, SandboxState as S, *};

    /// All 99 pairs: what each action leads to, `-` where it is refused.
    const TABLE: &str = "
        state        Provision    Ready   Pause  Resume  Stop     Ended   Fail   Lose    Find    Delete  Start
        queued       provisioning -       -      -       stopped  -       failed -       -       deleted -
        provisioning -            running -      -       -        stopped failed missing -       deleted provisioning
        running      -            -       paused -       stopping -       failed missing -       deleted running
        paused       -            -       -      running stopping -       failed missing -       deleted -
        stopping     -            -       -      -       stopping stopped failed missing -       deleted -
        stopped      -            -       -      -       stopped  -       -      -       -       deleted provisioning
        failed       -            -       -      -       failed   -       -      -       -       deleted provisioning
        missing      -            -       -      -       -        stopped failed -       running deleted -
        deleted      -            -       -      -       deleted  -       -      -       -       deleted -";

    #[test]
    fn every_pair_of_state_and_action() {
        let rows: Vec<Vec<&str>> = TABLE
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|row: &Vec<&str>| !row.is_empty())
            .collect();
        assert_eq!(rows.len(), 1 + S::ALL.len());
        for row in &rows[1..] {
            let from = S::from_name(row[0]).unwrap();
            for (column, action) in A::ALL.into_iter().enumerate() {
                assert_eq!(rows[0][column + 1], format!("{action:?}"));
                let want = S::from_name(row[column + 1]);
                assert_eq!(next(from, action).ok(), want, "{from} {action:?}");
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for state in S::ALL {
            assert_eq!(S::from_name(state.as_str()), Some(state));
            assert_eq!(
                serde_json::to_value(state).unwrap(),
                serde_json::json!(state.as_str())
            );
        }
        for reason in FailureReason::ALL {
            assert_eq!(FailureReason::from_name(reason.as_str()), Some(reason));
            assert_eq!(
                serde_json::to_value(reason).unwrap(),
                serde_json::json!(reason.as_str())
            );
        }
    }
}
