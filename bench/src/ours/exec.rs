//! Commands in what runs already.

use std::time::Instant;

use anyhow::Result;
use async_trait::async_trait;
use futures::future::try_join_all;

use super::{Stage, TRUE, millis, plain};
use crate::api::Sandbox;
use crate::process;
use crate::race::{self, Contestant};
use crate::results::{Results, Row, US};

const TRIP: Row = millis("exec round trip of `true`", Some("≤ 2 p50"));
const TWENTY: Row = millis("20 execs of `true` at once, all ended", None);
const FIRST_EVENT: Row = millis("exec asked for → its first output over SSE", None);
const AT_ONCE: usize = 20;
const ROUNDS: usize = 500;
const ROUNDS_OF_TWENTY: usize = 30;

pub(super) async fn measure(stage: Stage<'_>, results: &mut Results) -> Result<()> {
    let sandbox = stage.api.create(&plain()).await?;
    turns(stage, &sandbox, 1, TRIP, ROUNDS, results).await?;
    turns(stage, &sandbox, AT_ONCE, TWENTY, ROUNDS_OF_TWENTY, results).await?;
    for _ in 0..ROUNDS / 5 {
        let began = Instant::now();
        let exec = sandbox.start(&["/bin/echo", "ready"]).await?;
        let has_output = |tail: &[u8]| tail.windows(10).any(|part| part == b"\"t\":\"stdou");
        sandbox.stream(&exec, has_output).await?;
        results.time(FIRST_EVENT, US, began.elapsed());
    }
    sandbox.delete().await
}

/// Everyone who has an exec, `at_once` at a time.
pub(super) async fn turns(
    stage: Stage<'_>,
    sandbox: &Sandbox,
    at_once: usize,
    row: Row,
    rounds: usize,
    results: &mut Results,
) -> Result<()> {
    let mut all: Vec<Box<dyn Contestant>> = vec![Box::new(Execs {
        name: US.to_owned(),
        how: How::Api(sandbox.clone()),
        at_once,
        row,
        rounds,
    })];
    for peer in &stage.peers.all {
        let Some(exec) = &peer.exec else { continue };
        all.push(Box::new(Execs {
            name: peer.name.clone(),
            how: How::Command([exec.as_slice(), &[TRUE.to_owned()]].concat()),
            at_once,
            row,
            rounds: rounds.min(peer.rounds / at_once.min(4)),
        }));
    }
    race::run(all, results).await
}

enum How {
    Api(Sandbox),
    Command(Vec<String>),
}

struct Execs {
    name: String,
    how: How,
    at_once: usize,
    row: Row,
    rounds: usize,
}

#[async_trait]
impl Contestant for Execs {
    fn name(&self) -> &str {
        &self.name
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    async fn once(&mut self, results: &mut Results) -> Result<()> {
        let began = Instant::now();
        try_join_all((0..self.at_once).map(|_| self.one())).await?;
        results.time(self.row, &self.name, began.elapsed());
        Ok(())
    }
}

impl Execs {
    async fn one(&self) -> Result<()> {
        match &self.how {
            How::Api(sandbox) => sandbox.run(&[TRUE]).await.map(drop),
            How::Command(command) => process::run(command).await.map(drop),
        }
    }
}
