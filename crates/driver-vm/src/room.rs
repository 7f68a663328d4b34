//! Machines that stand because the host's disk was full: nothing that they wrote is lost, and they go on once there is room.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::statvfs;
use skerry_driver::DriverError;
use skerry_types::SandboxId;
use tokio::time::sleep;

use crate::clock;
use crate::live::{Live, Now};
use crate::qmp::Monitor;
use crate::record::{Place, Records};

const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// With less than this, a machine may be one that stands.
const LOW_BYTES: u64 = 1 << 30;

/// Sandboxes that live.
pub(crate) type Lives = Arc<Mutex<HashMap<SandboxId, Arc<Live>>>>;

/// Looks at the file system of `folder` for as long as there are `lives`.
pub(crate) async fn watch(
    lives: Weak<Mutex<HashMap<SandboxId, Arc<Live>>>>,
    records: Records,
    folder: PathBuf,
) {
    let mut was_low = false;
    loop {
        sleep(LOOK_AGAIN).await;
        let Some(lives) = lives.upgrade() else { return };
        let is_low = free_bytes(&folder) < LOW_BYTES;
        if is_low || was_low {
            for id in running(&lives) {
                if let Err(error) = go_on(&records, id).await {
                    tracing::debug!(%id, %error, "whether it stands is not known");
                }
            }
        }
        was_low = is_low;
    }
}

/// What cannot be said is taken for nothing.
fn free_bytes(folder: &Path) -> u64 {
    statvfs(folder).map_or(0, |room| room.f_bavail * room.f_frsize)
}

fn running(lives: &Lives) -> Vec<SandboxId> {
    let lives = lives.lock();
    let running = lives.iter();
    let running = running.filter(|(_, live)| matches!(live.now(), Now::Runs(_)));
    running.map(|(id, _)| *id).collect()
}

async fn go_on(records: &Records, id: SandboxId) -> Result<(), DriverError> {
    let place = Place::of(records, id)?;
    let mut monitor = Monitor::connect(&place).await?;
    if monitor.stands_for_room().await? {
        monitor.go_on().await?;
        // It may stand again before it answers, and others wait for their turn here.
        tokio::spawn(async move {
            if let Err(error) = clock::set_right(&place).await {
                tracing::debug!(%id, %error, "its clock is behind");
            }
        });
    }
    Ok(())
}
