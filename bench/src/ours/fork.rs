//! Forks of a running sandbox that has written a lot.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::{Stage, TRUE, millis};
use crate::api::Sandbox;
use crate::results::{Results, Row, US};

const FORK: Row = millis(
    "fork of a running sandbox with 50 000 files, 1 GiB written",
    Some("≤ 10"),
);
const TO_EXEC: Row = millis("· to the end of the child's first exec", None);
const DIRTY: Row = millis("fork right after 1 GiB was written", None);
const DIRTY_TO_EXEC: Row = millis(
    "· to the end of the child's first exec, right after writing",
    None,
);
/// A sandbox may be forked ten times; then its last child is.
const FORKS_OF_ONE: usize = 10;
const GENERATIONS: usize = 3;
const REWRITES: usize = 5;
const WRITE: &str =
    "mkdir -p /tmp/many && head -c 1073741824 /dev/urandom | split -a 5 -b 21475 - /tmp/many/";

pub(super) async fn measure(stage: Stage<'_>, results: &mut Results) -> Result<()> {
    let request = json!({ "image": "host", "network": "none", "memory_mb": 2048, "disk_mb": 8192 });
    let parent = stage.api.create(&request).await?;
    for _ in 0..REWRITES {
        parent.run(&["/bin/sh", "-c", WRITE]).await?;
        let child = fork(&parent, DIRTY, DIRTY_TO_EXEC, results).await?;
        child.delete().await?;
    }
    let mut parent = next(parent, &mut Results::default()).await?;
    for _ in 0..GENERATIONS {
        for _ in 1..FORKS_OF_ONE {
            let child = fork(&parent, FORK, TO_EXEC, results).await?;
            child.delete().await?;
        }
        parent = next(parent, results).await?;
    }
    parent.delete().await
}

/// One last fork, which takes the place of its parent.
async fn next(parent: Sandbox, results: &mut Results) -> Result<Sandbox> {
    let child = fork(&parent, FORK, TO_EXEC, results).await?;
    parent.delete().await?;
    Ok(child)
}

async fn fork(parent: &Sandbox, row: Row, to_exec: Row, results: &mut Results) -> Result<Sandbox> {
    let began = Instant::now();
    let child = parent.fork().await?;
    results.time(row, US, began.elapsed());
    child.run(&[TRUE]).await?;
    results.time(to_exec, US, began.elapsed());
    Ok(child)
}
