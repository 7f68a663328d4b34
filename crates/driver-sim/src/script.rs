//! What goes wrong, and when.

use std::collections::VecDeque;
use std::time::Duration;

/// What goes wrong, and when. Holds from when it is set until it is changed.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Creates and forks fail when they come here, and leave nothing.
    pub fail_at: Option<Stage>,
    /// So many creates and forks never come to an end.
    pub hang_creates: u32,
    /// Each stage of a create or fork, each kill and each destroy takes this long.
    pub delay: Duration,
    /// So many kills and destroys fail, and do nothing.
    pub fail_removals: u32,
    /// So many kills and destroys never come to an end, and do nothing.
    pub hang_removals: u32,
    /// Nothing that is there can be taken up.
    pub fail_adopts: bool,
    /// Pauses fail, and do nothing.
    pub fail_pauses: bool,
    /// Resumes fail, and do nothing.
    pub fail_resumes: bool,
    /// Agents that start from now on die by themselves after this long.
    pub die_after: Option<Duration>,
    /// So many programs of each sandbox were killed for lack of memory.
    pub oom_kills: u64,
    /// So many connects fail.
    pub refuse_connects: u32,
    /// Each further link breaks after its number of bytes, both directions together; links hold once these are used up.
    pub cuts: VecDeque<u64>,
}

/// Where a create or fork can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is there.
    Record,
    /// Once it is recorded.
    Files,
    /// Once it has files.
    Agent,
    /// Once its agent runs.
    Ready,
}

impl Stage {
    /// In order.
    pub const ALL: [Self; 4] = [Self::Record, Self::Files, Self::Agent, Self::Ready];
}
