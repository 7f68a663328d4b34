//! Ours, through the public API.

use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use async_trait::async_trait;
use serde_json::{Value, json};
use skerry_testkit::server::{Launch, Server};
use tokio::time::sleep;

use super::steps::Steps;
use super::tool::{Kept, Tool, hold, until_held};
use super::{MEMORY_MIB, PROCESSORS};
use crate::api::{Api, Sandbox};
use crate::results::US;
use crate::{cache_home, program, pss};

const IMAGE: &str = "bench";
/// A virtual machine's first disk of an image takes as long.
const FIRST: Duration = Duration::from_mins(2);
const ASK_AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Us {
    api: Api,
    server: Server,
    request: Value,
    parent: Sandbox,
    kept: Option<String>,
    copies: Vec<Sandbox>,
    steps: [Steps; 4],
}

/// A server of its own with a sandbox of this driver that holds memory, and what runs that if it is a machine.
pub(super) async fn start(driver: &str, archive: Vec<u8>) -> Result<(Us, Option<String>)> {
    let (server, api) = serve(0, archive).await?;
    let request = request(driver);
    let parent = holding(&api, &request).await?;
    let accelerator = parent.accelerator.clone();
    let us = Us {
        api,
        server,
        request,
        parent,
        kept: None,
        copies: Vec::new(),
        steps: ["create", "snapshot", "create from it", "fork"].map(Steps::new),
    };
    Ok((us, accelerator))
}

/// A server that has the image, and so many sandboxes of a kind ready.
pub(super) async fn serve(ready: usize, archive: Vec<u8>) -> Result<(Server, Api)> {
    let launch = Launch::new(program()?)
        .env("SKERRY_READY", &ready)
        .env("XDG_CACHE_HOME", &cache_home()?.display());
    let server = tokio::task::spawn_blocking(move || launch.start()).await??;
    let api = Api::new(server.url(), server.key())?;
    api.import(IMAGE, archive).await?;
    Ok((server, api))
}

pub(super) fn request(driver: &str) -> Value {
    json!({
        "driver": driver,
        "image": IMAGE,
        "network": "none",
        "memory_mb": MEMORY_MIB,
        "vcpus": PROCESSORS,
    })
}

/// What asks for a sandbox of this snapshot.
pub(super) fn copy_of(snapshot: &str) -> Value {
    json!({ "image": snapshot, "network": "none" })
}

/// A sandbox in which a program holds memory.
pub(super) async fn holding(api: &Api, request: &Value) -> Result<Sandbox> {
    let sandbox = first(api, request).await?;
    hold_more(&sandbox, "/tmp/held").await?;
    Ok(sandbox)
}

/// The first of its kind, as soon as there can be one.
async fn first(api: &Api, request: &Value) -> Result<Sandbox> {
    let began = Instant::now();
    let never = |error: &Error| error.to_string().contains("\"unsupported\"");
    loop {
        match api.create(request).await {
            Err(error) if !never(&error) && began.elapsed() < FIRST => sleep(ASK_AGAIN).await,
            made => return made,
        }
    }
}

async fn hold_more(sandbox: &Sandbox, file: &str) -> Result<()> {
    sandbox.start(&["/bin/sh", "-c", &hold(file)]).await?;
    let until = until_held(file);
    sandbox.run(&["/bin/sh", "-c", &until]).await.map(drop)
}

pub(super) async fn speak(sandbox: &Sandbox) -> Result<()> {
    let said = sandbox.run(&["/bin/echo", "ready"]).await?;
    ensure!(said == "ready\n", "it said {said:?}");
    Ok(())
}

#[async_trait]
impl Tool for Us {
    fn name(&self) -> String {
        US.to_owned()
    }

    async fn cold(&mut self) -> Result<Option<Duration>> {
        let began = Instant::now();
        let sandbox = self.api.create(&self.request).await?;
        speak(&sandbox).await?;
        let took = began.elapsed();
        self.steps[0].add(sandbox.steps("sandbox.ready").await?);
        sandbox.delete().await?;
        Ok(Some(took))
    }

    async fn keep(&mut self) -> Result<Kept> {
        if let Some(old) = self.kept.take() {
            self.api.remove_snapshot(&old).await?;
        }
        let began = Instant::now();
        let (snapshot, stood) = self.parent.snapshot().await?;
        let took = began.elapsed();
        self.steps[1].add(self.parent.steps("sandbox.snapshot").await?);
        self.kept = Some(snapshot);
        Ok(Kept {
            took,
            stood: Some(stood),
        })
    }

    async fn wake(&mut self) -> Result<Duration> {
        let snapshot = self.kept.as_ref().context("nothing is kept")?;
        let request = copy_of(snapshot);
        let began = Instant::now();
        let copy = self.api.create(&request).await?;
        speak(&copy).await?;
        let took = began.elapsed();
        self.steps[2].add(copy.steps("sandbox.ready").await?);
        self.copies.push(copy);
        Ok(took)
    }

    async fn fork(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let child = self.parent.fork_with_memory().await?;
        speak(&child).await?;
        let took = began.elapsed();
        self.steps[3].add(child.steps("sandbox.ready").await?);
        self.copies.push(child);
        Ok(took)
    }

    fn pss(&self) -> Result<f64> {
        pss::of(self.server.processes())
    }

    async fn touch(&mut self) -> Result<()> {
        for copy in &self.copies {
            hold_more(copy, "/tmp/more").await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        for copy in self.copies.drain(..) {
            copy.delete().await?;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        self.steps.iter().filter_map(Steps::note).collect()
    }
}
