//! Where a sandbox may connect.

use skerry_store::{Network, Sandbox as Row};
use skerry_types::{Egress, Error, Result, SandboxId, SandboxState};

use crate::read::not_running;
use crate::{Caller, Control, Sandbox};

impl Control {
    /// The network of a sandbox whose caller names none.
    pub fn default_network(&self) -> &str {
        &self.0.settings.default_network
    }

    /// New rules instead of those it had: its node has them before they are on record. What they forbid of its open connections ends.
    pub async fn set_egress(
        &self,
        caller: &Caller,
        id: SandboxId,
        egress: Egress,
    ) -> Result<Sandbox> {
        let row = self.0.store.sandbox(&caller.tenant, id).await?;
        if !matches!(row.state, SandboxState::Running | SandboxState::Paused) {
            return Err(not_running(id, row.state));
        }
        check(row.network, &egress)?;
        let control = self.clone();
        let changed = self.detached(async move { control.change_egress(&row, egress).await });
        Ok(self.view(changed.await?))
    }

    /// One change after the other, so that the record has the rules that the node has.
    async fn change_egress(&self, row: &Row, egress: Egress) -> Result<Row> {
        let turn = self.0.live.turn(row.id);
        let _held = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let node = self.member_of(row)?.handle;
        node.set_egress(row.id, egress.clone()).await?;
        let (store, now) = (&self.0.store, self.now());
        let row = store
            .set_egress(&row.tenant(), row.id, &egress, now)
            .await?;
        self.know(&row);
        Ok(row)
    }
}

/// Rules need a way out that they rule.
pub(crate) fn check(network: Network, egress: &Egress) -> Result<()> {
    if egress.is_empty() || network == Network::Nat {
        return Ok(());
    }
    let text = format!(
        "egress is for network nat; this sandbox has network {}",
        network.as_str()
    );
    Err(Error::validation(text).with_hint("a sandbox with network none reaches nothing anyway"))
}
