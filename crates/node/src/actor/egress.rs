//! Where the sandbox may connect.

use skerry_types::{Egress, Error};

use super::{Actor, journal_error};
use crate::event::Event;

impl Actor {
    /// New rules instead of those it had, for good; on error those of before.
    pub(super) async fn set_egress(&mut self, egress: Egress) -> Result<(), Error> {
        let mut meta = self.meta.clone();
        meta.egress = egress;
        self.way_out.check(&meta)?;
        // A daemon that dies before the gate knows has the next one tell it.
        self.save(&meta)?;
        let before = std::mem::replace(&mut self.meta, meta);
        let enforced = self.enforce(&before.egress).await;
        if enforced.is_err() {
            self.meta = before;
            self.take_back_rules().await;
        }
        enforced
    }

    /// Has the gate keep the rules on record, and tells of it if they are others than these.
    async fn enforce(&mut self, before: &Egress) -> Result<(), Error> {
        self.way_out.rule(&self.meta).await?;
        if self.meta.egress == *before {
            return Ok(());
        }
        self.note(&Event::egress_changed(&self.meta.egress))
            .map_err(|e| journal_error(&e))
    }

    async fn take_back_rules(&mut self) {
        let ruled = self.way_out.rule(&self.meta).await.map_err(Error::from);
        if let Err(error) = self.save(&self.meta).and(ruled) {
            tracing::error!(sandbox = %self.shared.id, %error, "rules that it has no more may still be kept");
        }
    }
}
