//! Ours where sandboxes stand ready.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use super::{ROUNDS, millis, ours};
use crate::api::Api;
use crate::results::{Results, Row, US};

const READY: Row = millis("create → first output, one that stood ready", None);
const READY_COPY: Row = millis("· of that snapshot", None);
const EACH: usize = 2;
/// As long as it takes to make another ready, and more.
const REST: Duration = Duration::from_millis(800);
/// Nothing was handed out so often: nothing stands ready.
const IN_VAIN: usize = 10;
/// The step of what was handed out.
const HANDED_OUT: &str = "stood ready";

pub(super) async fn measure(driver: &str, archive: Vec<u8>, results: &mut Results) -> Result<()> {
    let (mut server, api) = ours::serve(EACH, archive).await?;
    let image = ours::request(driver);
    let parent = ours::holding(&api, &image).await?;
    let (snapshot, _) = parent.snapshot().await?;
    take(&api, READY, &image, results).await?;
    take(&api, READY_COPY, &ours::copy_of(&snapshot), results).await?;
    // It takes with it what stands ready.
    tokio::task::spawn_blocking(move || server.end()).await??;
    Ok(())
}

/// Creates some that stood ready. The first ones tell the server that there is somebody who wants them.
async fn take(api: &Api, row: Row, request: &Value, results: &mut Results) -> Result<()> {
    let (mut taken, mut in_vain) = (0, 0);
    while taken < ROUNDS {
        let began = Instant::now();
        let sandbox = api.create(request).await?;
        ours::speak(&sandbox).await?;
        let took = began.elapsed();
        let steps = sandbox.steps("sandbox.ready").await?;
        if steps.iter().any(|(step, _)| step == HANDED_OUT) {
            results.time(row, US, took);
            taken += 1;
        } else {
            in_vain += 1;
            ensure!(in_vain < IN_VAIN, "nothing stands ready: {steps:?}");
        }
        sandbox.delete().await?;
        sleep(REST).await;
    }
    Ok(())
}
