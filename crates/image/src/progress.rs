//! How far a long piece of work has come, for whoever watches.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Which step is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asking the registry, reading the archive's manifest.
    Resolving,
    /// Bytes come over the network.
    Downloading,
    /// Layers are written to disk.
    Unpacking,
    /// A tool builds the root file system.
    Building,
    /// The image can be used.
    Done,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Update {
    /// The step.
    pub phase: Phase,
    /// Bytes of the step that are done.
    pub done_bytes: u64,
    /// Bytes of the step in all; 0 when nobody knows.
    pub total_bytes: u64,
    /// A short line for a person.
    pub message: String,
}

/// Takes reports; cheap to clone. Called from any thread, so it must not block.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Update) + Send + Sync>);

impl Progress {
    /// Reports go to this function.
    pub fn new(report: impl Fn(Update) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// Nobody watches.
    pub fn none() -> Self {
        Self::new(|_| ())
    }

    /// Reports go to the newest value of a watch channel.
    pub fn watch(sender: tokio::sync::watch::Sender<Option<Update>>) -> Self {
        Self::new(move |update| {
            sender.send_replace(Some(update));
        })
    }

    pub(crate) fn report(&self, phase: Phase, done: u64, total: u64, message: impl Into<String>) {
        (self.0)(Update {
            phase,
            done_bytes: done,
            total_bytes: total,
            message: message.into(),
        });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
