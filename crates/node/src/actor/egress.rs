//! Where the sandbox may connect.

use skerry_types::{Egress, Error};

use super::{Actor, journal_error};
use crate::event::Event;

impl Actor {
    /// New rules instead of those it had, for good.
    pub(super) async fn set_egress(&mut self, egress: Egress) -> Result<(), Error> {
        let is_new = egress != self.meta.egress;
        let mut meta = self.meta.clone();
        meta.egress = egress;
        self.way_out.check(&meta)?;
        // A daemon that dies before the gate knows has the next one tell it.
        self.save(&meta)?;
        self.meta = meta;
        self.way_out.rule(&self.meta).await?;
        if is_new {
            self.note(&Event::egress_changed(&self.meta.egress))
                .map_err(|e| journal_error(&e))?;
        }
        Ok(())
    }
}
