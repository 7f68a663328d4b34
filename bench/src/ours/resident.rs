//! The memory that an idle sandbox costs.

use std::time::Duration;

use anyhow::Result;

use super::{Stage, TRUE, plain};
use crate::pss;
use crate::results::{Results, Row, US};

const COST: Row = Row {
    title: "resident cost of an idle sandbox: PSS of all our processes, (with 50 − with none) / 50",
    unit: "MiB",
    reach: Some("≤ 2"),
};
const SERVER: Row = Row {
    title: "PSS of all our processes with no sandbox",
    unit: "MiB",
    reach: None,
};
const IDLE: usize = 50;
/// What was needed for making them is given back by then.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) async fn measure(stage: Stage<'_>, results: &mut Results) -> Result<()> {
    // What the first sandbox ever needs is no cost of an idle one.
    let first = stage.api.create(&plain()).await?;
    first.run(&[TRUE]).await?;
    first.delete().await?;
    tokio::time::sleep(SETTLE).await;
    let before = pss::of(stage.server.processes())?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let sandbox = stage.api.create(&plain()).await?;
        sandbox.run(&[TRUE]).await?;
        idle.push(sandbox);
    }
    tokio::time::sleep(SETTLE).await;
    let with = pss::of(stage.server.processes())?;
    results.add(SERVER, US, before);
    results.add(COST, US, (with - before) / IDLE as f64);
    for sandbox in idle {
        sandbox.delete().await?;
    }
    Ok(())
}
