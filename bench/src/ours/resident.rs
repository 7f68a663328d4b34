//! The memory that an idle sandbox costs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Stage, TRUE, plain};
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
    let before = pss(stage)?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let sandbox = stage.api.create(&plain()).await?;
        sandbox.run(&[TRUE]).await?;
        idle.push(sandbox);
    }
    tokio::time::sleep(SETTLE).await;
    let with = pss(stage)?;
    results.add(SERVER, US, before);
    results.add(COST, US, (with - before) / IDLE as f64);
    for sandbox in idle {
        sandbox.delete().await?;
    }
    Ok(())
}

/// MiB of the server, everything it started, and every agent.
fn pss(stage: Stage<'_>) -> Result<f64> {
    let mut kib = 0.0;
    for pid in stage.server.processes() {
        kib += of(pid).with_context(|| format!("the memory of process {pid}"))?;
    }
    Ok(kib / 1024.0)
}

fn of(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no Pss")?.parse()?)
}
