//! What an operator may decide.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skerry_types::limits;

use crate::{Clock, SystemClock};

/// What happens to running sandboxes when control ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrain {
    /// They run on and are taken up at the next start.
    Leave,
    /// They are stopped.
    Stop,
}

/// What an operator may decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which of the control processes over one store this is. One that starts again under its name takes up what it left undone.
    pub replica: String,
    /// The image of a sandbox that names none.
    pub default_image: String,
    /// The network of a sandbox that names none: `none` or `nat`.
    pub default_network: String,
    /// The region of a sandbox that names none.
    pub region: String,
    /// How long a node may take to make a sandbox.
    pub provision_timeout: Duration,
    /// How long a sandbox may be stopping before it is removed hard.
    pub stop_timeout: Duration,
    /// A node silent for this long: its sandboxes are missing.
    pub missing_after: Duration,
    /// A node silent for this long: its sandboxes are lost.
    pub lost_after: Duration,
    /// How often store and nodes are compared even if nothing happened.
    pub resync_every: Duration,
    /// How long the record of a deleted sandbox is kept.
    pub retention: Duration,
    /// How long work in progress may take once draining began.
    pub drain_timeout: Duration,
    /// What happens to running sandboxes then.
    pub on_drain: OnDrain,
    /// Where files are kept that builds copy from; `None`: nothing can be copied.
    pub uploads: Option<PathBuf>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        Self {
            replica: "local".into(),
            default_image: "base".into(),
            default_network: "nat".into(),
            region: "local".into(),
            provision_timeout: Duration::from_secs(limits::PROVISION_TIMEOUT_SECONDS),
            stop_timeout: Duration::from_secs(30),
            missing_after: Duration::from_secs(30),
            lost_after: Duration::from_mins(5),
            resync_every: Duration::from_secs(15),
            retention: Duration::from_secs(30 * DAY),
            drain_timeout: Duration::from_secs(30),
            on_drain: OnDrain::Leave,
            uploads: None,
            clock: Arc::new(SystemClock),
        }
    }
}
