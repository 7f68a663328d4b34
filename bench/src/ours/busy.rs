//! An exec while fifty others work.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::json;

use super::{Stage, exec, millis, plain};
use crate::results::{Results, Row};

const OFTEN: Row = millis(
    "exec of `true` beside 50 sandboxes that each start a program 5 times a second",
    Some("≤ 10 p99"),
);
const ALWAYS: Row = millis(
    "exec of `true` beside 50 sandboxes that each spin without pause",
    None,
);
const BUSY: usize = 50;
const ROUNDS: usize = 200;

pub(super) async fn measure(stage: Stage<'_>, results: &mut Results) -> Result<()> {
    beside(
        stage,
        "while :; do /bin/true; sleep 0.2; done",
        OFTEN,
        results,
    )
    .await?;
    beside(stage, "while :; do :; done", ALWAYS, results).await
}

async fn beside(stage: Stage<'_>, script: &str, row: Row, results: &mut Results) -> Result<()> {
    let request = json!({ "image": "host", "network": "none", "vcpus": 1 });
    let mut others = Vec::new();
    for _ in 0..BUSY {
        let sandbox = stage.api.create(&request).await?;
        sandbox.start(&["/bin/sh", "-c", script]).await?;
        others.push(sandbox);
    }
    let sandbox = stage.api.create(&plain()).await?;
    exec::turns(stage, &sandbox, 1, row, ROUNDS, results).await?;
    sandbox.delete().await?;
    try_join_all(others.iter().map(crate::api::Sandbox::delete)).await?;
    Ok(())
}
