//! Rolling back: the sandbox goes on in a new place, made from one of its snapshots.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::pending;
use skerry_driver::{Driver, DriverError};
use skerry_proto::node::SandboxReport;
use skerry_types::{Error, ExecEnd, SandboxId, SandboxState};
use tokio::time::sleep;

use super::{Actor, gone};
use crate::event::Event;
use crate::link::Link;
use crate::meta::{Meta, RolledBack};
use crate::snapshots::Kept;
use crate::wake::restore;

/// Between one try to take away what was left and the next.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(5);

impl Actor {
    /// Makes what the snapshot has the sandbox's own. What ran until now ends; with memory, what ran then goes on under new ids.
    pub(super) async fn roll_back(&mut self, to: &Kept) -> Result<SandboxReport, Error> {
        if self.state() != SandboxState::Paused {
            self.must_run()?;
        }
        let meta = self.back_at(to);
        let place = meta.spec.id;
        if let Err(error) = self.enter(&meta, to).await {
            self.leave(place).await;
            return Err(error.into());
        }
        // With this the sandbox is in its new place, whatever happens next.
        if let Err(error) = self.save(&meta) {
            self.leave(place).await;
            return Err(error);
        }
        let left = self.move_to(meta);
        self.finish_roll_back();
        self.take_up_open_execs();
        self.leave(left).await;
        Ok(self.report())
    }

    /// Goes on in another place; gives the one that it leaves.
    pub(super) fn move_to(&mut self, meta: Meta) -> SandboxId {
        let (left, place) = (self.place(), meta.spec.id);
        self.meta = meta;
        *self.shared.place.write() = place;
        self.link = Link::new(Arc::clone(&self.driver), place, self.meta.names.clone());
        self.gone = gone(&self.driver, place);
        // What the agent that was left said last, and what was counted there, is nothing to the new one.
        self.backlog.clear();
        self.oom_seen = 0;
        self.oom_kills = pending().boxed();
        self.is_holding = false;
        left
    }

    /// Makes what the snapshot has in a new place, from which it reaches what it may reach now.
    async fn enter(&mut self, meta: &Meta, to: &Kept) -> Result<(), DriverError> {
        self.way_out.rule(meta).await?;
        let (driver, from) = (self.driver.as_ref(), to.report.id);
        let made = restore(driver, from, &meta.spec, to.report.memory).await;
        made.map(drop)
    }

    /// What it is in its new place.
    fn back_at(&self, to: &Kept) -> Meta {
        let (names, open) = to.meta.names.renewed(&to.open);
        let mut meta = self.meta.clone();
        meta.spec.id = SandboxId::new();
        meta.names = names;
        meta.rolled_back = Some(RolledBack {
            count: self.shared.history.read().roll_backs + 1,
            to: to.report.id,
            open,
        });
        meta
    }

    /// Puts on record what became of everything. A daemon that died may have come no further than to the new place.
    pub(super) fn finish_roll_back(&mut self) {
        let on_record = self.shared.history.read().roll_backs;
        let Some(back) = self.meta.rolled_back.clone() else {
            return;
        };
        if on_record >= back.count {
            return;
        }
        self.end_all_execs(&ExecEnd::SandboxStopped);
        self.close_all_sessions();
        self.drop_requests();
        if self.state() == SandboxState::Paused {
            self.note_anyway(&Event::SandboxResumed {});
        }
        self.note_anyway(&Event::SandboxRolledBack {
            snapshot_id: back.to,
        });
        for mut event in back.open {
            if let Event::ExecStarted { number, .. } = &mut event {
                *number = self.shared.history.read().exec_count() + 1;
            }
            self.note_anyway(&event);
        }
    }

    /// Takes away a place that is not, or no longer, the sandbox's; sooner or later.
    pub(super) async fn leave(&mut self, place: SandboxId) {
        self.way_out.forget(place);
        if let Err(error) = self.driver.destroy(place).await {
            tracing::error!(sandbox = %self.shared.id, %place, %error, "a place that it left is still there");
            tokio::spawn(keep_leaving(Arc::clone(&self.driver), place));
        }
    }
}

/// Until it is gone. A daemon that ends before leaves it to the sweep of the next.
async fn keep_leaving(driver: Arc<dyn Driver>, place: SandboxId) {
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        match driver.destroy(place).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%place, %error, "a place that was left is still there"),
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
