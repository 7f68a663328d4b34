//! `stats`: what sandboxes use.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use futures::future::join_all;
use serde::Serialize;
use skerry_api::{Metrics, Sandbox as Record};
use skerry_client::ListSandboxes;
use skerry_types::{SandboxId, SandboxState};

use super::output::{self, cell, size};
use super::{Context, Outcome};

const PERIOD: Duration = Duration::from_secs(1);

/// Show what sandboxes use; on a terminal again every second
#[derive(Debug, Args)]
#[command(
    visible_alias = "top",
    after_help = "\
Examples:
  skerry stats
  skerry stats build --once --json"
)]
pub(crate) struct StatsArgs {
    /// Show it once
    #[arg(long)]
    once: bool,
    /// Sandboxes: names, ids, or the first letters of ids; all that run unless given
    #[arg(value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Used {
    sandbox_id: SandboxId,
    name: Option<String>,
    memory_limit_bytes: u64,
    #[serde(flatten)]
    metrics: Metrics,
}

pub(super) async fn stats(ctx: &Context, args: StatsArgs) -> Outcome {
    let live = !args.once && !ctx.out.json && io::stdout().is_terminal();
    let mut before: HashMap<SandboxId, Metrics> = HashMap::new();
    let mut lines = 0;
    loop {
        let used = measure(ctx, &args.sandboxes).await?;
        if ctx.out.json {
            output::json(&used)?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows = used.iter().map(|one| row(one, before.get(&one.sandbox_id)));
        let head = [
            "ID",
            "NAME",
            "CPU",
            "MEMORY",
            "LIMIT",
            "PEAK",
            "DISK",
            "PROCESSES",
        ];
        let table = ctx.out.table_text(&head, rows.collect());
        if lines > 0 {
            // Back to the first line of the table before, and clear what is below.
            output::bytes(format!("\x1b[{lines}A\x1b[J").as_bytes())?;
        }
        output::bytes(table.as_bytes())?;
        if !live {
            return Ok(ExitCode::SUCCESS);
        }
        lines = table.lines().count();
        before = used
            .into_iter()
            .map(|one| (one.sandbox_id, one.metrics))
            .collect();
        tokio::time::sleep(PERIOD).await;
    }
}

async fn measure(ctx: &Context, names: &[String]) -> anyhow::Result<Vec<Used>> {
    let mut records = Vec::new();
    for name in names {
        records.push(ctx.sandbox(name).await?.get().await?);
    }
    if names.is_empty() {
        let running = ListSandboxes {
            status: Some(SandboxState::Running.as_str().to_owned()),
            ..ListSandboxes::default()
        };
        records = ctx.client.list_all(running).await?;
        // One that ended in between is not shown.
        let used = join_all(records.into_iter().map(|record| used(ctx, record))).await;
        return Ok(used.into_iter().flatten().collect());
    }
    let used = join_all(records.into_iter().map(|record| used(ctx, record))).await;
    Ok(used.into_iter().collect::<Result<_, _>>()?)
}

async fn used(ctx: &Context, record: Record) -> skerry_client::Result<Used> {
    let metrics = ctx.client.sandbox(record.sandbox_id).metrics().await?;
    Ok(Used {
        sandbox_id: record.sandbox_id,
        name: record.name,
        memory_limit_bytes: u64::from(record.memory_mb) * 1024 * 1024,
        metrics,
    })
}

fn row(used: &Used, before: Option<&Metrics>) -> Vec<Cell> {
    let metrics = &used.metrics;
    // Its first process always runs: with none, nobody counts here.
    let counted = |text: String| cell(if metrics.pids > 0 { &text } else { "-" });
    vec![
        cell(used.sandbox_id.to_string()),
        cell(used.name.as_deref().unwrap_or("-")),
        counted(cpu(metrics, before)),
        counted(size(metrics.memory_bytes)),
        counted(size(used.memory_limit_bytes)),
        counted(size(metrics.memory_peak_bytes)),
        cell(size(metrics.disk_bytes)),
        counted(metrics.pids.to_string()),
    ]
}

/// The share of one processor since the last look; at the first look, the processor time since the start.
fn cpu(now: &Metrics, before: Option<&Metrics>) -> String {
    let Some(before) = before else {
        return format!("{:.1} s", now.cpu_us as f64 / 1e6);
    };
    let spent = now.cpu_us.saturating_sub(before.cpu_us) as f64;
    let passed = (now.ts.as_microsecond() - before.ts.as_microsecond()).max(1) as f64;
    format!("{:.0}%", spent / passed * 100.0)
}
