//! Tells whoever watches of every change of a sandbox.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use skerry_proto::node::SandboxReport;
use skerry_types::{Error, ErrorCode, Result};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Changes a watcher may be behind before it must list again.
const BEHIND: usize = 1024;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Reports(broadcast::Sender<SandboxReport>);

impl Default for Reports {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Reports {
    pub(crate) fn tell(&self, report: SandboxReport) {
        // Nobody watching is fine.
        drop(self.0.send(report));
    }

    pub(crate) fn watch(&self) -> BoxStream<'static, Result<SandboxReport>> {
        stream::unfold(self.0.subscribe(), |mut receiver| async move {
            match receiver.recv().await {
                Ok(report) => Some((Ok(report), receiver)),
                Err(RecvError::Lagged(missed)) => {
                    let error = Error::new(
                        ErrorCode::ServiceUnavailable,
                        format!("{missed} changes were missed; list again"),
                    );
                    Some((Err(error), receiver))
                }
                Err(RecvError::Closed) => None,
            }
        })
        .boxed()
    }
}
