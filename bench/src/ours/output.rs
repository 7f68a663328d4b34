//! How fast the output of one program reaches whoever reads it.

use std::time::Instant;

use anyhow::{Result, ensure};
use async_trait::async_trait;

use super::{Stage, plain};
use crate::api::Api;
use crate::process;
use crate::race::{self, Contestant};
use crate::results::{Results, Row, US};

const TEXT: Row = Row {
    title: "output of one exec, lines of text, to the reader (ours over SSE, journaled)",
    unit: "MiB/s",
    reach: Some("≥ 200"),
};
const MIB: u64 = 256;
const ROUNDS: usize = 7;
const SCRIPT: &str =
    "yes 'all work and no play makes a sandbox a dull place to be in today' | head -c 268435456";

pub(super) async fn measure(stage: Stage<'_>, results: &mut Results) -> Result<()> {
    let mut all: Vec<Box<dyn Contestant>> = vec![Box::new(Us(stage.api.clone()))];
    for peer in &stage.peers.all {
        let Some(exec) = &peer.exec else { continue };
        let program = ["/bin/sh", "-c", SCRIPT].map(str::to_owned);
        all.push(Box::new(Other {
            name: peer.name.clone(),
            command: [exec.as_slice(), &program].concat(),
        }));
    }
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
        // A new one each time: the record of one sandbox is bounded.
        let sandbox = self.0.create(&plain()).await?;
        let began = Instant::now();
        let exec = sandbox.start(&["/bin/sh", "-c", SCRIPT]).await?;
        let is_end = |tail: &[u8]| tail.windows(10).any(|part| part == b"\"t\":\"exit\"");
        let read = sandbox.stream(&exec, is_end).await?;
        let took = began.elapsed();
        let written = sandbox.stdout_bytes(&exec).await?;
        sandbox.delete().await?;
        ensure!(
            written == MIB << 20 && read > written,
            "{written} bytes were written, {read} read"
        );
        results.add(TEXT, US, MIB as f64 / took.as_secs_f64());
        Ok(())
    }
}

struct Other {
    name: String,
    command: Vec<String>,
}

#[async_trait]
impl Contestant for Other {
    fn name(&self) -> &str {
        &self.name
    }

    fn rounds(&self) -> usize {
        ROUNDS
    }

    async fn once(&mut self, results: &mut Results) -> Result<()> {
        let took = process::run(&self.command).await?;
        ensure!(took.bytes == MIB << 20, "{} bytes arrived", took.bytes);
        results.add(TEXT, &self.name, MIB as f64 / took.whole.as_secs_f64());
        Ok(())
    }
}
