//! What becomes of a driver's work: within a time, and put on record.

use std::time::{Duration, Instant};

use skerry_driver::{DriverError, Instance, Privilege};
use skerry_proto::node::SandboxFacts;
use skerry_types::limits::PROVISION_TIMEOUT_SECONDS;

use crate::event::{BootStep, Event};
use crate::meta::Meta;

/// What a driver was asked to make.
pub(crate) type Made = Result<Instance, DriverError>;

/// As long as making a sandbox may take.
pub(crate) async fn in_time(work: impl Future<Output = Made>) -> Made {
    let limit = Duration::from_secs(PROVISION_TIMEOUT_SECONDS);
    let made = tokio::time::timeout(limit, work).await;
    made.unwrap_or(Err(DriverError::TooSlow(PROVISION_TIMEOUT_SECONDS)))
}

/// The event that says so; `memory`: it goes on with copied processes.
pub(crate) fn ready(began: Instant, instance: &Instance, meta: &Meta, memory: bool) -> Event {
    Event::SandboxReady {
        boot_us: began.elapsed().as_micros() as u64,
        facts: facts(instance, meta, memory),
        steps: instance.steps.iter().map(BootStep::from).collect(),
    }
}

fn facts(instance: &Instance, meta: &Meta, memory: bool) -> SandboxFacts {
    let facts = &instance.facts;
    SandboxFacts {
        driver: facts.driver.clone(),
        isolation: facts.isolation.as_str().to_owned(),
        accelerator: facts.accelerator.map(|runs| runs.as_str().to_owned()),
        privilege: match facts.privilege {
            Privilege::Restricted => "restricted".to_owned(),
            Privilege::Root => "root".to_owned(),
        },
        storage: facts.storage.clone(),
        disk_quota: facts.disk_quota,
        limits: facts.limits,
        image_digest: meta.image.digest.clone(),
        fork: meta
            .forked_from
            .map(|_| if memory { "files+memory" } else { "files" }.to_owned()),
        published: meta.published.clone(),
    }
}
