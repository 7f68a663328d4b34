//! Sandboxes that could not be taken up when the node started: left as they are, called missing, and tried again until they can be.

use std::sync::{Arc, Weak};
use std::time::Duration;

use skerry_proto::node::SandboxReport;
use skerry_types::{Error, ErrorCode, ExecEnd, Result, SandboxId, SandboxState};
use tokio::time::sleep;

use crate::meta::Meta;
use crate::node::Node;

/// Between one try and the next.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// One of them.
#[derive(Debug)]
pub(crate) struct Aside {
    why: String,
    /// What its driver calls it, if that can be read.
    pub(crate) place: Option<SandboxId>,
}

impl Node {
    /// Takes up what has a folder; what resists is put aside.
    pub(crate) async fn take_up(&self, ids: Vec<SandboxId>) {
        for id in ids {
            if let Err(error) = self.take_up_one(id).await {
                tracing::error!(sandbox = %id, %error, "cannot take up a sandbox; it is left alone for now");
                let meta = Meta::recall(&self.layout, id).ok().flatten();
                let aside = Aside {
                    why: error.message,
                    place: meta.map(|meta| meta.spec.id),
                };
                self.aside.lock().insert(id, aside);
            }
        }
    }

    async fn take_up_one(&self, id: SandboxId) -> Result<()> {
        match Meta::recall(&self.layout, id) {
            Ok(Some(meta)) => self.adopt(id, meta).await,
            Ok(None) => {
                self.take_up_journal(id);
                Ok(())
            }
            Err(error) => Err(Error::internal(format!("cannot read meta.json: {error}"))),
        }
    }

    /// What is said of one that is aside.
    pub(crate) async fn report_aside(&self, id: SandboxId) -> Option<SandboxReport> {
        let why = self.aside.lock().get(&id)?.why.clone();
        let mut report = self.shared(id).await.ok()?.report();
        report.state = SandboxState::Missing;
        report.message = Some(format!("its node could not take it up again: {why}"));
        Some(report)
    }

    /// All that are aside.
    pub(crate) async fn reports_aside(&self) -> Vec<SandboxReport> {
        let ids: Vec<SandboxId> = self.aside.lock().keys().copied().collect();
        let mut reports = Vec::new();
        for id in ids {
            reports.extend(self.report_aside(id).await);
        }
        reports
    }

    /// Fails for one that is aside: nobody can say yet what is there of it.
    pub(crate) fn must_not_be_aside(&self, id: SandboxId) -> Result<()> {
        match self.aside.lock().get(&id) {
            None => Ok(()),
            Some(aside) => Err(Error::new(
                ErrorCode::ServiceUnavailable,
                format!("sandbox {id} could not be taken up again: {}", aside.why),
            )
            .with_hint(match aside.place {
                Some(_) => "it is tried again every few seconds; see the server's log",
                None => "mend or restore its meta.json in the data folder, or delete the sandbox",
            })),
        }
    }

    fn is_lost(&self, id: SandboxId) -> bool {
        let aside = self.aside.lock();
        aside.get(&id).is_some_and(|aside| aside.place.is_none())
    }

    /// Deletes one of which nobody can say where it is: what has its id on a driver, and its record. Whatever lies elsewhere is nobody's from
    /// then on, and goes when the node starts next. `false`: it is no such sandbox.
    pub(crate) async fn delete_lost(&self, id: SandboxId) -> Result<bool> {
        if !self.is_lost(id) {
            return Ok(false);
        }
        let _nobody_takes_it_up = self.taking_up.lock().await;
        if !self.is_lost(id) {
            return Ok(false);
        }
        for driver in &self.drivers {
            driver.destroy(id).await?;
        }
        self.forget_cold(id);
        self.close_record(id, &ExecEnd::NodeLost)?;
        self.aside.lock().remove(&id);
        Ok(true)
    }
}

/// As long as there is a node, and anything is aside.
pub(crate) async fn keep_trying(node: Weak<Node>) {
    loop {
        sleep(TRY_AGAIN).await;
        let Some(node) = node.upgrade() else { return };
        let ids: Vec<SandboxId> = node.aside.lock().keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        for id in ids {
            node.try_again(id).await;
        }
    }
}

impl Node {
    async fn try_again(self: &Arc<Self>, id: SandboxId) {
        let _nobody_deletes_it = self.taking_up.lock().await;
        if !self.aside.lock().contains_key(&id) {
            return;
        }
        self.forget_cold(id);
        match self.take_up_one(id).await {
            Ok(()) => {
                self.aside.lock().remove(&id);
                if let Ok(handle) = self.handle(id) {
                    self.reports.tell(handle.shared.report());
                }
            }
            Err(error) => tracing::debug!(sandbox = %id, %error, "still cannot take it up"),
        }
    }
}
