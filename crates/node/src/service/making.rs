//! Making a sandbox: written down before anything of it is on the host, and taken up, or its failure told, after.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use skerry_driver::{Driver, DriverError};
use skerry_image::Hold;
use skerry_proto::node::SandboxReport;
use skerry_types::{Error, FailureReason, Result, SandboxId, SnapshotId};

use crate::actor::{Shared, journal_error};
use crate::event::Event;
use crate::made::{Made, in_time, ready};
use crate::meta::Meta;
use crate::node::Node;
use crate::prepared::Place;
use crate::publish::Doors;

/// A sandbox to make.
pub(super) struct Plan {
    pub(super) id: SandboxId,
    pub(super) meta: Meta,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) image: Hold,
    pub(super) origin: Origin,
    /// The ports of this machine at which its own are reached.
    pub(super) doors: Doors,
    /// Where it is made, if that was prepared.
    pub(super) place: Option<Place>,
}

/// What it is made from instead of its image.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// The parent's last event that a fork has.
    pub(super) forked_at_seq: Option<u64>,
    pub(super) snapshot: Option<SnapshotId>,
    /// It goes on with copied processes.
    pub(super) memory: bool,
    /// Execs and sessions that go on in it.
    pub(super) open: Vec<Event>,
}

impl Node {
    /// A place that is prepared for one, if there is any: it is made there.
    pub(super) fn place_of(&self, driver: &Arc<dyn Driver>, meta: &mut Meta) -> Option<Place> {
        let place = self.prepared.take(driver, meta.spec.network)?;
        meta.spec.id = place.id();
        Some(place)
    }

    /// Makes one, whoever waits for it, by doing `work` once it is written down.
    pub(super) async fn bring_up(
        &self,
        mut plan: Plan,
        work: impl Future<Output = Made> + Send + 'static,
    ) -> Result<SandboxReport> {
        let id = plan.id;
        let start = plan.meta.start.clone().filter(|_| !plan.origin.memory);
        self.make(id, |node| async move {
            let started = Instant::now();
            let shared = node.begin(&plan)?;
            // What is begun is seen to the end, with the place that it has.
            if let Some(place) = plan.place.take() {
                place.used();
            }
            let made = in_time(async {
                if !plan.meta.egress.is_empty() {
                    node.way_out.rule(&plan.meta).await?;
                }
                work.await
            })
            .await;
            let report = node.finish(plan, shared, made, started).await?;
            if let Some(start) = start {
                node.start_program(id, &start).await?;
            }
            Ok(report)
        })
        .await
    }

    /// Writes down that a sandbox is being made, before anything of it is on the host. On error nothing of it is left.
    fn begin(&self, plan: &Plan) -> Result<Arc<Shared>> {
        self.budget.check()?;
        self.way_out.check(&plan.meta)?;
        let id = plan.id;
        let folder = self.layout.folder(id);
        std::fs::create_dir(&folder).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::from(DriverError::Exists(id)),
            _ => DriverError::step("make the folder of its record")(e).into(),
        })?;
        let begun = self.write_begin(plan);
        if begun.is_err()
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            tracing::error!(sandbox = %id, %error, "the folder of one that was not begun stays");
        }
        begun
    }

    fn write_begin(&self, plan: &Plan) -> Result<Arc<Shared>> {
        let (id, meta) = (plan.id, &plan.meta);
        meta.save(&self.layout.meta(id))
            .map_err(DriverError::step("write meta.json"))?;
        let shared = self.open_shared(id)?;
        let created = Event::SandboxCreated {
            image: meta.image.reference.clone(),
            image_digest: meta.image.digest.clone(),
            env_names: meta.env.keys().cloned().collect(),
            forked_from: meta.forked_from,
            forked_at_seq: plan.origin.forked_at_seq,
            snapshot_id: plan.origin.snapshot,
        };
        let ruled = (!meta.egress.is_empty()).then(|| Event::egress_changed(&meta.egress));
        let events: Vec<Event> = [created].into_iter().chain(ruled).collect();
        if let Err(error) = note(&shared, &events) {
            self.budget.live.take_off(shared.journal.size());
            return Err(error);
        }
        self.begun(&shared);
        Ok(shared)
    }

    /// Takes up what was made, or writes down why it was not.
    async fn finish(
        &self,
        plan: Plan,
        shared: Arc<Shared>,
        made: Made,
        started: Instant,
    ) -> Result<SandboxReport> {
        let Plan {
            id,
            meta,
            driver,
            image,
            origin,
            doors,
            place: _,
        } = plan;
        let outcome = match made {
            Ok(instance) => {
                let ready = ready(started, &instance, &meta, origin.memory);
                let events: Vec<Event> = origin.open.into_iter().chain([ready]).collect();
                note(&shared, &events)
            }
            Err(error) => {
                tracing::warn!(sandbox = %id, error = ?error, "cannot be made");
                let failed = Event::SandboxFailed {
                    failure_reason: FailureReason::ProvisionFailed,
                    message: error.to_string(),
                };
                note(&shared, &[failed]).and(Err(error.into()))
            }
        };
        if outcome.is_err()
            && let Err(error) = driver.destroy(meta.spec.id).await
        {
            // Its record stays, so that deleting it tries again.
            tracing::error!(sandbox = %id, %error, "what was half made could not be removed");
        }
        let report = shared.report();
        self.insert(
            id,
            self.start_actor(shared, driver, meta, Some(image), doors, Vec::new()),
        );
        self.reports.tell(report.clone());
        outcome.map(|()| report)
    }
}

fn note(shared: &Shared, events: &[Event]) -> Result<()> {
    let records: Vec<_> = events.iter().map(Event::record).collect();
    let appended = shared
        .journal
        .append(&records)
        .map_err(|e| journal_error(&e))?;
    let mut history = shared.history.write();
    for event in events {
        history.event(event, appended.at);
    }
    Ok(())
}
