//! Ending gracefully.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use skerry_types::{FailureReason, SandboxState};

use crate::{Control, OnDrain};

impl Control {
    /// Takes nothing new, waits for what is in progress, then leaves or stops the sandboxes as the settings say.
    pub async fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
        self.0.builds.interrupt();
        let settings = &self.0.settings;
        let work = async {
            if settings.on_drain == OnDrain::Stop {
                self.stop_all().await;
            }
            self.0.tasks.close();
            self.0.tasks.wait().await;
        };
        if tokio::time::timeout(settings.drain_timeout, work)
            .await
            .is_err()
        {
            tracing::warn!("some work was still in progress when the time to end it was up");
        }
        self.0.stop.cancel();
    }

    /// Stops every sandbox and waits until each has ended.
    async fn stop_all(&self) {
        let states = [
            SandboxState::Queued,
            SandboxState::Running,
            SandboxState::Paused,
            SandboxState::Stopping,
        ];
        let rows = states.into_iter().flat_map(|s| self.0.live.in_state(s));
        join_all(rows.map(async |row| {
            let id = row.id;
            if let Err(error) = self.begin_stop(row, FailureReason::SandboxStopped).await {
                tracing::warn!(%id, %error, "it could not be stopped");
            }
            while let Some(mut changes) = self.0.live.subscribe(id) {
                let _changed = changes.changed().await;
            }
        }))
        .await;
    }
}
