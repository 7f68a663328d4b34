//! How an exec ended: one of eight ways, and never a made-up one.

use serde::{Deserialize, Serialize};

/// The explicit end of an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExecEnd {
    /// It returned this code.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// A signal killed it.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// The kernel killed it because the sandbox was out of memory.
    OomKilled,
    /// It ran into its timeout and was killed.
    TimedOut,
    /// Its sandbox was stopped, or died, under it.
    SandboxStopped,
    /// Its sandbox was deleted under it.
    SandboxDeleted,
    /// Its node went away and did not come back: how it ended is not known.
    NodeLost,
    /// It never ran.
    FailedToStart {
        /// What stood in the way, for a person to read.
        reason: String,
    },
}

impl ExecEnd {
    /// The exit code as a shell would show it, where there is one: the code itself, 128 + the signal, 137 for out of memory,
    /// 124 for a timeout, 127 for a command that could not be started.
    pub const fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exited { code } => Some(*code),
            Self::Signaled { signal } => Some(128 + *signal),
            Self::OomKilled => Some(137),
            Self::TimedOut => Some(124),
            Self::FailedToStart { .. } => Some(127),
            Self::SandboxStopped | Self::SandboxDeleted | Self::NodeLost => None,
        }
    }

    /// The status that this end means.
    pub const fn status(&self) -> ExecStatus {
        match self {
            Self::Exited { .. } | Self::Signaled { .. } | Self::OomKilled => ExecStatus::Done,
            Self::TimedOut => ExecStatus::TimedOut,
            Self::SandboxStopped
            | Self::SandboxDeleted
            | Self::NodeLost
            | Self::FailedToStart { .. } => ExecStatus::Failed,
        }
    }
}

/// Where an exec is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStatus {
    /// Accepted, not started.
    Queued,
    /// Started.
    Running,
    /// Ended by itself or by a signal; a non-zero code is still done.
    Done,
    /// Did not get to an end of its own.
    Failed,
    /// Ran into its timeout.
    TimedOut,
}

impl ExecStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::TimedOut,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }

    /// The status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// What an exec used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, user and system, of the whole process tree that was waited for, in milliseconds.
    pub cpu_ms: u64,
    /// The largest resident size of any one process of it, in bytes. Unknown for a script of a session, since the kernel counts for the whole shell,
    /// and for what ended unseen.
    pub peak_memory_bytes: Option<u64>,
}
