//! Lives of sandboxes.

use std::sync::Weak;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use skerry_proto::node::{
    CreateSandbox, Defaults, ForkSandbox, SandboxReport, SandboxStats, Sandboxes,
};
use skerry_types::{Egress, Error, ErrorCode, FailureReason, Result, SandboxId};

use super::making::{Origin, Plan};
use super::order;
use crate::actor::Command;
use crate::event::Event;
use crate::node::Node;

#[async_trait]
impl Sandboxes for Node {
    async fn create(&self, request: CreateSandbox) -> Result<SandboxReport> {
        if let Some(from) = request.snapshot {
            return self.create_from(from, &request).await;
        }
        let driver = self.driver(request.driver.as_deref())?;
        let image = self.images.resolve(&request.image)?;
        let volumes = self.shelf.mounts(&request.volumes)?;
        let mut meta = order::meta(&request, &image, volumes, driver.as_ref())?;
        // A host name of its own, and volumes, must be there from the start.
        let ready = match request.name {
            None if request.volumes.is_empty() => {
                self.pool.take(&order::kind(&meta, &driver, None))
            }
            _ => None,
        };
        let place = if let Some(ready) = &ready {
            meta.spec = ready.spec().clone();
            None
        } else {
            self.place_of(&driver, &mut meta)
        };
        let doors = self.publisher.take(&request.ports)?;
        meta.published = doors.published();
        let plan = Plan {
            id: request.id,
            driver: driver.clone(),
            image: self.images.hold(&image)?,
            origin: Origin::default(),
            doors,
            place,
            meta,
        };
        let spec = plan.meta.spec.clone();
        self.bring_up(plan, async move {
            if let Some(ready) = ready
                && let Some(instance) = ready.hand_out().await?
            {
                return Ok(instance);
            }
            driver.create(&spec).await
        })
        .await
    }

    async fn fork(&self, request: ForkSandbox) -> Result<SandboxReport> {
        let report = self.fork_of(&request).await?;
        let forked = Event::SandboxForked {
            fork_sandbox_id: request.id,
        };
        // A parent that is gone by now has no use for it.
        if let Ok(parent) = self.handle(request.parent) {
            parent.ask(|reply| Command::Note(forked, reply)).await?;
        }
        Ok(report)
    }

    async fn stop(&self, id: SandboxId, reason: Option<FailureReason>) -> Result<SandboxReport> {
        self.handle(id)?
            .ask(|reply| Command::Stop(reason, reply))
            .await
    }

    async fn start(&self, id: SandboxId) -> Result<SandboxReport> {
        self.budget.check()?;
        let handle = self.handle(id).map_err(|error| match error.code {
            ErrorCode::NotFound => Error::conflict(format!("nothing is left of sandbox {id}")),
            _ => error,
        })?;
        let meta = self.meta_of(id)?;
        let doors = self.publisher.take_again(&meta.published)?;
        let myself = Weak::clone(&self.myself);
        let report = handle
            .ask(|reply| Command::Start(doors, myself, reply))
            .await?;
        if let Some(start) = meta.start {
            self.start_program(id, &start).await?;
        }
        Ok(report)
    }

    async fn delete(&self, id: SandboxId) -> Result<()> {
        self.until_made(id).await;
        if self.delete_lost(id).await? {
            return Ok(());
        }
        self.must_not_be_aside(id)?;
        let Ok(handle) = self.handle(id) else {
            return Ok(());
        };
        match handle.ask(Command::Delete).await {
            // Another delete was first, and its actor is gone.
            Err(error) if error.code == ErrorCode::NotFound => {}
            done => done?,
        }
        self.remove(id);
        Ok(())
    }

    async fn pause(
        &self,
        id: SandboxId,
        unless_used_since: Option<Timestamp>,
    ) -> Result<SandboxReport> {
        self.handle(id)?
            .ask(|reply| Command::Pause(unless_used_since, reply))
            .await
    }

    async fn resume(&self, id: SandboxId) -> Result<SandboxReport> {
        self.handle(id)?.ask(Command::Resume).await
    }

    async fn set_auto_resume(&self, id: SandboxId, auto_resume: bool) -> Result<()> {
        self.handle(id)?
            .ask(|reply| Command::SetAutoResume(auto_resume, reply))
            .await
    }

    async fn set_egress(&self, id: SandboxId, egress: Egress) -> Result<()> {
        self.handle(id)?
            .ask(|reply| Command::SetEgress(egress, reply))
            .await
    }

    async fn list(&self) -> Result<Vec<SandboxReport>> {
        let mut reports = self.reports_aside().await;
        reports.extend(self.handles().iter().map(|h| h.shared.report()));
        Ok(reports)
    }

    async fn get(&self, id: SandboxId) -> Result<SandboxReport> {
        if let Some(report) = self.report_aside(id).await {
            return Ok(report);
        }
        Ok(self.shared(id).await?.report())
    }

    async fn defaults(&self, id: SandboxId) -> Result<Defaults> {
        self.handle(id)?;
        let meta = self.meta_of(id)?;
        Ok(Defaults {
            env: meta.env,
            workdir: meta.image.config.workdir,
            user: meta.user,
            start: meta.start,
        })
    }

    fn watch(&self) -> BoxStream<'static, Result<SandboxReport>> {
        self.reports.watch()
    }

    async fn stats(&self, id: SandboxId) -> Result<SandboxStats> {
        let handle = self.handle(id)?;
        let stats = handle.driver.stats(handle.shared.place()).await?;
        Ok(SandboxStats {
            cpu_us: stats.cpu_us,
            memory_bytes: stats.memory_bytes,
            memory_peak_bytes: stats.memory_peak_bytes,
            pids: stats.pids,
            disk_bytes: stats.disk_bytes,
            oom_kills: stats.oom_kills,
        })
    }

    async fn touch(&self, id: SandboxId) -> Result<()> {
        *self.handle(id)?.shared.last_active.write() = Timestamp::now();
        Ok(())
    }

    async fn warn_ttl(&self, id: SandboxId, seconds_remaining: u64) -> Result<()> {
        let warning = Event::SandboxTtlWarning { seconds_remaining };
        self.handle(id)?
            .ask(|reply| Command::Note(warning, reply))
            .await
    }
}
