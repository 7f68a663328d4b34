//! A machine that is stopped for something goes on although whoever does that is given up half-way.

use std::time::Duration;

use skerry_driver::DriverError;
use skerry_proto::guest::{Call, Thaw};
use skerry_types::SandboxId;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use crate::qmp::Monitor;
use crate::record::{Place, Records};
use crate::{clock, control};

/// For a guest to let its disk go on.
const PATIENCE: Duration = Duration::from_secs(10);

/// The turn of whoever stops a machine or its disk. Dropped before it is [`over`](Self::over), this lets both go on, and only then the turn ends.
#[derive(Debug)]
pub(crate) struct Still {
    id: SandboxId,
    stopped: Option<Place>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Still {
    /// Made before anything is stopped.
    pub(crate) fn begin(
        records: &Records,
        id: SandboxId,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Self, DriverError> {
        Ok(Self {
            id,
            stopped: Some(Place::of(records, id)?),
            turn: Some(turn),
        })
    }

    /// It goes on already, or never shall.
    pub(crate) fn over(&mut self) {
        self.stopped = None;
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // Without a runtime the server ends, and the next one lets it go on.
        if let (Some(place), Ok(runtime)) = (self.stopped.take(), Handle::try_current()) {
            let (id, turn) = (self.id, self.turn.take());
            runtime.spawn(async move {
                go_on(id, &place).await;
                drop(turn);
            });
        }
    }
}

/// Lets a machine go on that was left standing.
pub(crate) async fn go_on(id: SandboxId, place: &Place) {
    let going = async {
        Monitor::connect(place).await?.go_on().await?;
        control::ask(place, Call::Thaw(Thaw {}), PATIENCE).await?;
        clock::set_right(place).await
    };
    if let Err(error) = going.await {
        tracing::warn!(%id, %error, "a machine that was left standing may stand still");
    }
}
