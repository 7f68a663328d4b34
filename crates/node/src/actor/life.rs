//! The sandbox's own life: pause, stop, kill, delete, and its death by itself.

use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use skerry_driver::DriverError;
use skerry_proto::agent::{Shutdown, to_agent::Body as To};
use skerry_proto::node::SandboxReport;
use skerry_types::limits::{KILL_GRACE_MS, MAX_RECORD_BYTES};
use skerry_types::state::{Action, next};
use skerry_types::{Error, ExecEnd, FailureReason, SandboxState};
use tokio::time::Instant;

use super::{Actor, forget, journal_error};
use crate::event::{Event, millis_between};
use crate::meta::Meta;
use crate::wake::renew;

/// What the agent gets beyond the grace to finish by itself.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(1);

impl Actor {
    /// Unless it was used after that time: then it stays as it is.
    pub(super) async fn pause(
        &mut self,
        unless_used_since: Option<Timestamp>,
    ) -> Result<SandboxReport, Error> {
        let now = self.shared.report();
        let is_used = unless_used_since.is_some_and(|at| now.last_active_at > at);
        if now.state == SandboxState::Paused || is_used {
            return Ok(now);
        }
        next(now.state, Action::Pause)?;
        // Whoever is connected learns of it now, and not when a time limit of theirs is over.
        self.cancel_dials();
        let to_disk = self.driver.capabilities().pause_to_disk;
        if to_disk {
            self.hold().await?;
        }
        let paused = self.driver.pause(self.place()).await;
        if to_disk && paused.is_err() {
            self.let_go();
        }
        if let Err(error) = paused {
            return Err(self.or_died(error).await);
        }
        self.is_holding = false;
        self.note_anyway(&Event::SandboxPaused {});
        Ok(self.report())
    }

    pub(super) async fn resume(&mut self) -> Result<SandboxReport, Error> {
        if self.state() == SandboxState::Running {
            return Ok(self.shared.report());
        }
        next(self.state(), Action::Resume)?;
        self.wake().await?;
        self.note_anyway(&Event::SandboxResumed {});
        self.touch();
        Ok(self.report())
    }

    /// It is paused, and wakes up when it is used.
    pub(super) fn sleeps(&self) -> bool {
        self.meta.auto_resume && self.state() == SandboxState::Paused
    }

    pub(super) fn set_auto_resume(&mut self, auto_resume: bool) -> Result<(), Error> {
        let mut meta = self.meta.clone();
        meta.auto_resume = auto_resume;
        self.save(&meta)?;
        self.meta = meta;
        Ok(())
    }

    pub(super) fn save(&self, meta: &Meta) -> Result<(), Error> {
        meta.save(&self.layout.meta(self.shared.id))
            .map_err(|e| Error::internal(format!("cannot write meta.json: {e}")))
    }

    /// Lets the processes of a paused one go on; from disk, with a clock that is right.
    async fn wake(&mut self) -> Result<(), Error> {
        if let Err(error) = self.driver.resume(self.place()).await {
            return Err(self.or_died(error).await);
        }
        if self.driver.capabilities().pause_to_disk {
            let renew = renew(&self.meta.spec)?;
            self.release(Some(renew)).await?;
        }
        Ok(())
    }

    /// Asks the agent to end everything, and asked again waits for it no longer; `on_gone` finishes it.
    pub(super) async fn stop(
        &mut self,
        reason: Option<FailureReason>,
    ) -> Result<SandboxReport, Error> {
        let state = self.state();
        if state == SandboxState::Stopping {
            self.kill().await;
        }
        if state.is_ended() || state == SandboxState::Stopping {
            return Ok(self.shared.report());
        }
        next(state, Action::Stop)?;
        let woken = match state {
            SandboxState::Paused => self.wake().await,
            _ => Ok(()),
        };
        let reason = reason.unwrap_or(FailureReason::SandboxStopped);
        self.note(&Event::SandboxStopping { reason })
            .map_err(|e| journal_error(&e))?;
        if let Err(error) = woken {
            // Nobody is there to be asked.
            tracing::warn!(sandbox = %self.shared.id, %error, "does not wake up to be stopped");
            self.kill().await;
            return Ok(self.report());
        }
        self.link.send(To::Shutdown(Shutdown {
            kill_grace_ms: KILL_GRACE_MS,
        }));
        self.kill_at = Some(Instant::now() + Duration::from_millis(KILL_GRACE_MS) + SHUTDOWN_SLACK);
        Ok(self.report())
    }

    /// The grace is over.
    pub(super) async fn kill(&mut self) {
        self.kill_at = None;
        if let Err(error) = self.driver.kill(self.place()).await {
            tracing::error!(sandbox = %self.shared.id, %error, "cannot kill");
            self.kill_at = Some(Instant::now() + SHUTDOWN_SLACK);
        }
    }

    /// Its processes are gone: as asked, or by themselves.
    pub(super) async fn on_gone(&mut self, result: Result<(), DriverError>) {
        if let Err(error) = result {
            tracing::error!(sandbox = %self.shared.id, %error, "cannot wait for the sandbox");
        }
        self.is_live = false;
        self.gone = futures::future::pending().boxed();
        self.kill_at = None;
        // What the agent sent before it ended is still in the socket.
        self.read_last_words().await;
        // What it has not read nobody reads.
        drop(self.link.reset("the sandbox has ended"));
        let is_oom = self.state() != SandboxState::Stopping && self.take_oom_kill().await;
        self.end_all_execs(&if is_oom {
            ExecEnd::OomKilled
        } else {
            ExecEnd::SandboxStopped
        });
        self.close_all_sessions();
        self.drop_requests();
        self.doors.close_for_good().await;
        if let Err(error) = self.driver.kill(self.place()).await {
            tracing::error!(sandbox = %self.shared.id, %error, "cannot give back what it held");
        }
        self.note_anyway(&self.obituary(is_oom));
        self.report();
    }

    /// What its record may take on the node's disk: no program inside may fill that with output.
    fn record_bytes(&self) -> u64 {
        let disk = u64::from(self.meta.spec.resources.disk_mb) * 1024 * 1024;
        disk.min(MAX_RECORD_BYTES)
    }

    pub(super) fn is_record_full(&self) -> bool {
        self.shared.journal.size() > self.record_bytes()
    }

    fn obituary(&self, is_oom: bool) -> Event {
        let history = self.shared.history.read();
        match (history.state, history.reason) {
            (SandboxState::Stopping, reason) => Event::SandboxStopped {
                reason: reason.unwrap_or(FailureReason::SandboxStopped),
                total_duration_ms: millis_between(history.created_at, Timestamp::now()),
            },
            _ if self.is_record_full() => Event::SandboxFailed {
                failure_reason: FailureReason::RecordFull,
                message: format!(
                    "its output filled the {} bytes of its record",
                    self.record_bytes()
                ),
            },
            _ if is_oom => Event::SandboxFailed {
                failure_reason: FailureReason::AgentLost,
                message: "it needed more memory than its limit, and was killed for that".to_owned(),
            },
            _ => Event::SandboxFailed {
                failure_reason: FailureReason::AgentLost,
                message: "the sandbox's first process died without being asked to".to_owned(),
            },
        }
    }

    /// Takes it from the host. Only its journal stays.
    pub(super) async fn delete(&mut self) -> Result<(), Error> {
        // Before the first of its processes ends: whoever finds it half deleted knows why.
        self.note_deleting(true);
        if let Err(error) = self.driver.destroy(self.place()).await {
            self.note_deleting(false);
            return Err(error.into());
        }
        self.is_live = false;
        self.doors.close_for_good().await;
        self.way_out.forget(self.place());
        // What ended before is not ended by this, also where the journal does not know yet.
        self.work_off_backlog().await;
        self.end_all_execs(&ExecEnd::SandboxDeleted);
        self.close_all_sessions();
        self.drop_requests();
        // A daemon that died right after this left only the rest to do.
        if self.state() != SandboxState::Deleted {
            self.note_anyway(&Event::SandboxDeleted {});
        }
        if self.owed.is_empty() {
            forget(&self.layout, self.shared.id);
        }
        self.report();
        Ok(())
    }

    /// A disk that is out of order is no reason to delete nothing.
    fn note_deleting(&self, deleting: bool) {
        if let Err(error) = Meta::note_deleting(&self.layout, self.shared.id, deleting) {
            tracing::warn!(sandbox = %self.shared.id, %error, deleting, "not on record");
        }
    }
}
