//! Starting again what has ended: it keeps its id, name and files, and quota and place are asked for anew.

use skerry_proto::node::Map;
use skerry_store::{Sandbox as Row, Tenant};
use skerry_types::{Error, Result, SandboxId, SandboxState};

use crate::live::Making;
use crate::make::Recipe;
use crate::{Caller, Control, Sandbox};

impl Control {
    /// Starts one that has ended again, on the node that has its files; returns when it runs. One that runs, or is being started, is left as it is.
    pub async fn start_sandbox(&self, caller: &Caller, id: SandboxId) -> Result<Sandbox> {
        self.takes_work()?;
        let row = self.0.store.sandbox(&caller.tenant, id).await?;
        match row.state {
            SandboxState::Running | SandboxState::Provisioning => return Ok(self.view(row)),
            SandboxState::Stopped | SandboxState::Failed => {}
            state => return Err(no_end(id, state)),
        }
        let (control, tenant) = (self.clone(), caller.tenant);
        self.detached(async move {
            let row = match control.begin_again(&tenant, id).await? {
                (row, Some(making)) => control.make(row, Recipe::Again, making).await?,
                (row, None) => row,
            };
            Ok(control.view(row))
        })
        .await
    }

    /// Gives it its place; nothing to make if somebody else was first.
    async fn begin_again(&self, tenant: &Tenant, id: SandboxId) -> Result<(Row, Option<Making>)> {
        // Whoever deletes it comes before or after this.
        let _turn = self.0.deleting.take(id).await;
        let _one_at_a_time = self.0.placing.lock().await;
        if let Some(turn) = self.0.live.turn(id) {
            // Whoever puts its end on record is through with it.
            drop(turn.lock().await);
        }
        let row = self.0.store.sandbox(tenant, id).await?;
        if !row.state.is_ended() {
            return Ok((row, None));
        }
        let row = self.0.store.start_sandbox(tenant, id, self.now()).await?;
        self.0.live.insert(row.clone(), Map::new());
        let making = self.begin_making(id);
        Ok((row, Some(making)))
    }
}

fn no_end(id: SandboxId, state: SandboxState) -> Error {
    let error = Error::conflict(format!(
        "sandbox {id} is {state}; only a stopped or failed one can be started again"
    ));
    match state {
        SandboxState::Paused => error.with_hint("resume it"),
        SandboxState::Stopping => error.with_hint("wait until it has ended").retry_after(1),
        _ => error,
    }
}
