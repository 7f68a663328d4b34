//! The suite that every driver passes: named checks whose expectations come from what the driver declares.
//!
//! A driver's tests implement [`Bed`] and call [`run`]. What a driver does not declare it must refuse with
//! [`DriverError::Unsupported`](crate::DriverError::Unsupported); what it does is tried through the agent inside. Around every check the bed's
//! view of the host is taken: whatever a check did, destroying its sandboxes leaves nothing.

mod adopt;
mod agent;
mod attach;
mod copies;
mod exec;
mod failure;
mod files;
mod fork;
mod ground;
mod isolation;
mod life;
mod limits;
mod memory;
mod network;
mod pause;
mod ports;
mod report;
mod snapshot;
mod volumes;
mod watch;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use skerry_types::SandboxId;
use tokio::time::{Instant, timeout};

use crate::{Capabilities, Driver, Rootfs};

use failure::{Failure, Verdict, ensure};
use ground::{Ground, Made};

pub use report::{Checked, Outcome, Report};

/// Long enough for a loaded machine; only a hang takes it.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a volume of a bed may hold, where the disk limit binds.
pub const VOLUME_BYTES: u64 = 16 << 20;

/// What the suite needs from whoever tests a driver.
#[async_trait]
pub trait Bed: Send + Sync {
    /// A driver over the bed's data folder, which is the same each time. The suite has let go of the one before.
    async fn driver(&self) -> Arc<dyn Driver>;

    /// A root file system with `/bin/sh` and `/tmp`, and, unless the isolation is none, with `python3`.
    fn rootfs(&self) -> Rootfs;

    /// What is on the host and may belong to sandboxes, a line for each thing: processes, mounts, control groups, networks, folders, volumes.
    /// A process counts only if it belongs to one of `made`, since a machine has others.
    async fn snapshot(&self, made: &[SandboxId]) -> BTreeSet<String>;

    /// A new volume that may hold [`VOLUME_BYTES`], as storage makes it. Needed where volumes are declared.
    fn volume(&self) -> Option<PathBuf> {
        None
    }

    /// Paths on the host of which no sandbox may see anything.
    fn secrets(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Where inside files of the host are shown on purpose, beside those of the root file system.
    fn shown(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// A named check.
struct Check {
    name: &'static str,
    /// Whether what it checks is declared.
    needs: fn(&Capabilities) -> bool,
    run: for<'a> fn(Ground<'a>) -> Running<'a>,
}

/// `"name", needs => function;` for each check of an area.
macro_rules! checks {
    ($($name:literal, $needs:expr => $run:path;)*) => {
        &[$($crate::conformance::Check { name: $name, needs: $needs, run: |ground| Box::pin($run(ground)) }),*]
    };
}
use checks;

fn always(_: &Capabilities) -> bool {
    true
}

/// Every check, by area.
const AREAS: &[&[Check]] = &[
    life::CHECKS,
    exec::CHECKS,
    attach::CHECKS,
    files::CHECKS,
    watch::CHECKS,
    limits::CHECKS,
    isolation::CHECKS,
    network::CHECKS,
    ports::CHECKS,
    pause::CHECKS,
    fork::CHECKS,
    snapshot::CHECKS,
    memory::CHECKS,
    copies::CHECKS,
    volumes::CHECKS,
    adopt::CHECKS,
];

/// Runs every check whose name contains `filter`, one after another.
pub async fn run(bed: &dyn Bed, filter: &str) -> Report {
    let capabilities = bed.driver().await.capabilities().clone();
    let mut checked = Vec::new();
    for check in AREAS.iter().flat_map(|area| area.iter()) {
        if check.name.contains(filter) {
            let began = Instant::now();
            let outcome = if (check.needs)(&capabilities) {
                outcome(try_out(bed, check).await)
            } else {
                Outcome::LeftOut
            };
            checked.push(Checked {
                name: check.name,
                outcome,
                took: began.elapsed(),
            });
        }
    }
    Report {
        capabilities,
        checked,
    }
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Ok(()) => Outcome::Passed,
        Err(failure) => Outcome::Failed(failure.to_string()),
    }
}

/// Runs one check over a driver of its own, then takes away with another what it made.
async fn try_out(bed: &dyn Bed, check: &Check) -> Verdict {
    let driver = bed.driver().await;
    let before = bed.snapshot(&[]).await;
    let made: Arc<Mutex<Made>> = Arc::default();
    let ground = Ground::new(bed, driver, Arc::clone(&made));
    let verdict = match timeout(PATIENCE, (check.run)(ground)).await {
        Ok(verdict) => verdict,
        Err(_) => Err(Failure::new(format!("no end after {PATIENCE:?}"))),
    };
    let made = made.lock().clone();
    verdict.and(clean_up(bed, &made, &before).await)
}

async fn clean_up(bed: &dyn Bed, made: &Made, before: &BTreeSet<String>) -> Verdict {
    let driver = bed.driver().await;
    for id in &made.sandboxes {
        driver.destroy(*id).await?;
    }
    for id in &made.snapshots {
        driver.remove_snapshot(*id).await?;
    }
    let left = driver.list().await?;
    ensure!(
        !made.sandboxes.iter().any(|id| left.contains(id)),
        "still listed after it was destroyed: {left:?}"
    );
    let left = driver.list_snapshots().await?;
    ensure!(
        !made.snapshots.iter().any(|id| left.contains(id)),
        "still listed after it was removed: {left:?}"
    );
    let after = bed.snapshot(&made.sandboxes).await;
    let leaked: Vec<&String> = after.difference(before).collect();
    ensure!(leaked.is_empty(), "left on the host: {leaked:#?}");
    Ok(())
}
