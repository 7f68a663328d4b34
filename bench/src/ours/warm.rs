//! The same as cold, where sandboxes stand ready: a server that keeps some, asked at a pace at which it can.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{millis, plain};
use crate::api::Api;
use crate::results::{Results, Row, US};

const FIRST_OUTPUT: Row = millis(
    "create → first output of the first exec, one that stood ready, 20 a second",
    Some("≤ 2.5 p50"),
);
const CREATE: Row = millis("· create of one that stood ready", None);
const ROUNDS: usize = 200;
/// As long as it takes to make another ready, and more.
const REST: Duration = Duration::from_millis(50);

pub(super) async fn measure(results: &mut Results) -> Result<()> {
    let launch = crate::launch()?.env("SKERRY_READY", &4);
    let mut server = tokio::task::spawn_blocking(move || launch.start()).await??;
    let api = Api::new(server.url(), server.key())?;
    // The first ones tell the server that there is somebody who wants them.
    for round in 0..ROUNDS + 8 {
        let began = Instant::now();
        let sandbox = api.create(&plain()).await?;
        let created = began.elapsed();
        let said = sandbox.run(&["/bin/echo", "ready"]).await?;
        let first = began.elapsed();
        ensure!(said == "ready\n", "it said {said:?}");
        if round >= 8 {
            results.time(CREATE, US, created);
            results.time(FIRST_OUTPUT, US, first);
        }
        sandbox.delete().await?;
        sleep(REST).await;
    }
    // It takes with it what stands ready.
    tokio::task::spawn_blocking(move || server.end()).await??;
    Ok(())
}
