//! From nothing to the first output, and to nothing again.

use std::time::Instant;

use anyhow::{Result, ensure};
use async_trait::async_trait;

use super::{Stage, millis, plain};
use crate::api::Api;
use crate::peers::Peer;
use crate::process;
use crate::race::{self, Contestant};
use crate::results::{Results, Row, US};

const FIRST_OUTPUT: Row = millis(
    "create → first output of the first exec, cold",
    Some("≤ 5 p50"),
);
const WHOLE: Row = millis("create, exec, delete", None);
const CREATE: Row = millis("· create", None);
const FIRST_EXEC: Row = millis("· first exec", None);
const DELETE: Row = millis("· delete", None);
const BOOT: Row = millis("· making it, as the server says", None);
const ROUNDS: usize = 200;
const COLD: &str = "Cold: no sandbox of this kind stood ready. What the server keeps are places that are not yet any sandbox's (`--prepared`, 4 unless said): \
    a process with namespaces and a control group, without files or an agent; one is used up by each create and made anew after it.";

pub(super) async fn measure(stage: Stage<'_>, results: &mut Results) -> Result<()> {
    let mut all: Vec<Box<dyn Contestant>> = vec![Box::new(Us(stage.api.clone()))];
    for peer in stage.peers.all.iter().filter(|peer| peer.run.is_some()) {
        all.push(Box::new(Other::new(peer)));
    }
    results.notes.push(COLD.to_owned());
    race::run(all, results).await
}

struct Us(Api);

#[async_trait]
impl Contestant for Us {
    fn name(&self) -> &str {
        US
    }

    fn rounds(&self) -> usize {
        ROUNDS
    }

    async fn once(&mut self, results: &mut Results) -> Result<()> {
        let began = Instant::now();
        let sandbox = self.0.create(&plain()).await?;
        let created = began.elapsed();
        let said = sandbox.run(&["/bin/echo", "ready"]).await?;
        let first = began.elapsed();
        sandbox.delete().await?;
        let whole = began.elapsed();
        ensure!(said == "ready\n", "it said {said:?}");
        results.time(FIRST_OUTPUT, US, first);
        results.time(WHOLE, US, whole);
        results.time(CREATE, US, created);
        results.add(BOOT, US, sandbox.boot_us / 1e3);
        results.time(FIRST_EXEC, US, first.saturating_sub(created));
        results.time(DELETE, US, whole.saturating_sub(first));
        Ok(())
    }
}

struct Other {
    name: String,
    command: Vec<String>,
    rounds: usize,
}

impl Other {
    fn new(peer: &Peer) -> Self {
        Self {
            name: peer.name.clone(),
            command: peer.run.clone().unwrap_or_default(),
            rounds: peer.rounds.min(ROUNDS),
        }
    }
}

#[async_trait]
impl Contestant for Other {
    fn name(&self) -> &str {
        &self.name
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    async fn once(&mut self, results: &mut Results) -> Result<()> {
        let took = process::run(&self.command).await?;
        ensure!(took.bytes == 6, "it did not say `ready`");
        results.time(FIRST_OUTPUT, &self.name, took.first);
        results.time(WHOLE, &self.name, took.whole);
        Ok(())
    }
}
