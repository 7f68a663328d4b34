//! The races: cold starts, keeping and waking up, and forks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::tool::Tool;
use super::{COLD, FORK, KEEP, ROUNDS, STOOD, WAKE};
use crate::peers::Peer;
use crate::process;
use crate::race::{self, Contestant};
use crate::results::Results;

/// Who needs longer hangs.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) type Shared = Arc<Mutex<dyn Tool>>;

pub(super) fn shared<T: Tool + 'static>(tool: T) -> Shared {
    Arc::new(Mutex::new(tool))
}

/// Lets all tools take turns in each race; `containers` can only begin with nothing. Who fails once takes no further part.
pub(super) async fn race(
    tools: &mut Vec<Shared>,
    containers: &[Peer],
    results: &mut Results,
) -> Result<()> {
    for part in [Part::Cold, Part::Keep, Part::Fork] {
        let mut all: Vec<Box<dyn Contestant>> = Vec::new();
        for tool in &*tools {
            all.push(Box::new(Turn::new(tool, part).await));
        }
        if part == Part::Cold {
            let run = |peer: &Peer| Some(Container(peer.name.clone(), peer.run.clone()?));
            let runs = containers.iter().filter_map(run);
            all.extend(runs.map(|run| -> Box<dyn Contestant> { Box::new(run) }));
        }
        race::run(all, results).await?;
        let mut fit = Vec::new();
        for tool in tools.drain(..) {
            let name = tool.lock().await.name();
            if !results.missing.iter().any(|missing| missing.who == name) {
                fit.push(tool);
            }
        }
        *tools = fit;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Cold,
    Keep,
    Fork,
}

/// A tool in one race.
struct Turn {
    name: String,
    part: Part,
    rounds: usize,
    tool: Shared,
}

impl Turn {
    async fn new(shared: &Shared, part: Part) -> Self {
        let tool = shared.lock().await;
        let rounds = match part {
            Part::Cold => tool.cold_rounds(),
            Part::Keep | Part::Fork => tool.rounds(),
        };
        Self {
            name: tool.name(),
            part,
            rounds,
            tool: Arc::clone(shared),
        }
    }

    async fn take(&self, results: &mut Results) -> Result<()> {
        let mut tool = self.tool.lock().await;
        match self.part {
            Part::Cold => {
                if let Some(took) = tool.cold().await? {
                    results.time(COLD, &self.name, took);
                }
                return Ok(());
            }
            Part::Keep => {
                let kept = tool.keep().await?;
                results.time(KEEP, &self.name, kept.took);
                if let Some(stood) = kept.stood {
                    results.time(STOOD, &self.name, stood);
                }
                results.time(WAKE, &self.name, tool.wake().await?);
            }
            Part::Fork => results.time(FORK, &self.name, tool.fork().await?),
        }
        tool.clear().await
    }
}

#[async_trait]
impl Contestant for Turn {
    fn name(&self) -> &str {
        &self.name
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    async fn once(&mut self, results: &mut Results) -> Result<()> {
        let turn = timeout(LIMIT, self.take(results)).await;
        turn.with_context(|| format!("{:?}: not done after {LIMIT:?}", self.part))?
            .with_context(|| format!("{:?}", self.part))
    }
}

struct Container(String, Vec<String>);

#[async_trait]
impl Contestant for Container {
    fn name(&self) -> &str {
        &self.0
    }

    fn rounds(&self) -> usize {
        ROUNDS
    }

    async fn once(&mut self, results: &mut Results) -> Result<()> {
        results.time(COLD, &self.0, process::run(&self.1).await?.first);
        Ok(())
    }
}
