//! What a check stands on: a driver, and a list of what it made with it.

use std::sync::Arc;

use parking_lot::Mutex;
use skerry_types::{Resources, SandboxId, SnapshotId};

use super::Bed;
use super::agent::Agent;
use super::failure::{Failure, Verdict};
use crate::{Capabilities, Driver, DriverError, NetworkMode, Privilege, Spec};

/// What a check may have made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    pub(crate) sandboxes: Vec<SandboxId>,
    pub(crate) snapshots: Vec<SnapshotId>,
}

/// What a check stands on.
pub(crate) struct Ground<'a> {
    bed: &'a dyn Bed,
    driver: Arc<dyn Driver>,
    made: Arc<Mutex<Made>>,
}

impl<'a> Ground<'a> {
    pub(crate) fn new(bed: &'a dyn Bed, driver: Arc<dyn Driver>, made: Arc<Mutex<Made>>) -> Self {
        Self { bed, driver, made }
    }

    pub(crate) fn bed(&self) -> &dyn Bed {
        self.bed
    }

    pub(crate) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    /// The same ground after its daemon was replaced by another.
    pub(crate) async fn after_restart(self) -> Self {
        let Self { bed, driver, made } = self;
        drop(driver);
        let driver = bed.driver().await;
        Self { bed, driver, made }
    }

    /// A small restricted sandbox without network, not made yet.
    pub(crate) fn spec(&self) -> Spec {
        let id = SandboxId::new();
        self.made.lock().sandboxes.push(id);
        Spec {
            id,
            resources: Resources::FREE_FORM,
            rootfs: self.bed.rootfs(),
            privilege: Privilege::Restricted,
            network: NetworkMode::None,
            hostname: format!("island-{}", &id.label()[20..]),
            volumes: Vec::new(),
        }
    }

    /// The name of a snapshot, not taken yet.
    pub(crate) fn snapshot_id(&self) -> SnapshotId {
        let id = SnapshotId::new();
        self.made.lock().snapshots.push(id);
        id
    }

    /// The levels that can be had.
    pub(crate) fn levels(&self) -> Vec<Privilege> {
        let mut levels = vec![Privilege::Restricted];
        if self.capabilities().level_root {
            levels.push(Privilege::Root);
        }
        levels
    }

    /// Makes one and greets its agent.
    pub(crate) async fn create(&self, spec: &Spec) -> Verdict<Agent> {
        self.driver.create(spec).await?;
        self.connect(spec.id).await
    }

    /// A sandbox like any other.
    pub(crate) async fn sandbox(&self) -> Verdict<(SandboxId, Agent)> {
        let spec = self.spec();
        let agent = self.create(&spec).await?;
        Ok((spec.id, agent))
    }

    /// A child of `parent`, with its agent greeted.
    pub(crate) async fn fork(&self, parent: SandboxId) -> Verdict<(SandboxId, Agent)> {
        let spec = self.spec();
        self.driver.fork(parent, &spec).await?;
        Ok((spec.id, self.connect(spec.id).await?))
    }

    pub(crate) async fn connect(&self, id: SandboxId) -> Verdict<Agent> {
        Agent::greet(self.driver.connect(id).await?).await
    }
}

/// What is not declared is refused as such.
pub(crate) fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, DriverError>) -> Verdict {
    match answer {
        Err(DriverError::Unsupported(_)) => Ok(()),
        other => Err(Failure::new(format!(
            "{what} is not declared, and the answer is {other:?}"
        ))),
    }
}
