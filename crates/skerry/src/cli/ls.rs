//! `ls` and `get`: which sandboxes there are, and what they are.

use std::process::ExitCode;

use clap::Args;
use skerry_api::{Facts, Sandbox as Record};
use skerry_client::ListSandboxes;
use skerry_types::SandboxState;

use super::output::{self, age, cell, maybe, state_cell};
use super::{Context, Outcome, parse};

/// List sandboxes, newest first
#[derive(Debug, Args)]
#[command(
    visible_alias = "list",
    after_help = "\
Examples:
  skerry ls
  skerry ls --all --json
  skerry rm $(skerry ls -q --label job=42)"
)]
pub(crate) struct LsArgs {
    /// The deleted ones too
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only in this state
    #[arg(long, value_name = "STATE", conflicts_with = "all")]
    status: Option<String>,
    /// Only of this image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Only of this project
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Only with this note
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::pair)]
    label: Vec<(String, String)>,
}

impl LsArgs {
    fn query(self) -> ListSandboxes {
        let everything = || SandboxState::ALL.map(SandboxState::as_str).join(",");
        ListSandboxes {
            status: self.status.or_else(|| self.all.then(everything)),
            image: self.image,
            project: self.project,
            metadata: parse::map(&self.label),
            ..ListSandboxes::default()
        }
    }
}

pub(super) async fn ls(ctx: &Context, args: LsArgs) -> Outcome {
    let quiet = args.quiet;
    let found = ctx.client.list_all(args.query()).await?;
    if quiet {
        let ids: Vec<_> = found.iter().map(|sandbox| sandbox.sandbox_id).collect();
        if ctx.out.json {
            output::json(&ids)?;
        } else {
            ids.iter()
                .try_for_each(|id| output::line(&id.to_string()))?;
        }
    } else if ctx.out.json {
        output::json(&found)?;
    } else {
        let head = [
            "ID",
            "NAME",
            "STATUS",
            "IMAGE",
            "AGE",
            "SIZE",
            "FORKED FROM",
        ];
        ctx.out.table(&head, found.iter().map(row).collect())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(sandbox: &Record) -> Vec<comfy_table::Cell> {
    let size = format!("{} cpu, {} MiB", sandbox.vcpus, sandbox.memory_mb);
    let parent = sandbox.forked_from.map(|id| id.to_string());
    vec![
        cell(sandbox.sandbox_id.to_string()),
        maybe(sandbox.name.as_deref()),
        state_cell(sandbox.status),
        cell(&sandbox.image),
        cell(age(sandbox.created_at)),
        cell(size),
        maybe(parent.as_deref()),
    ]
}

/// Show what a sandbox is
#[derive(Debug, Args)]
#[command(
    visible_alias = "inspect",
    after_help = "\
Examples:
  skerry get build
  skerry get build --json"
)]
pub(crate) struct GetArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
}

pub(super) async fn get(ctx: &Context, args: GetArgs) -> Outcome {
    let record = ctx.sandbox(&args.sandbox).await?.get().await?;
    if ctx.out.json {
        output::json(&record)?;
    } else {
        for (name, value) in facts(&record) {
            output::line(&format!("{name:<14}{value}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to say of a sandbox, and nothing else.
fn facts(record: &Record) -> Vec<(&'static str, String)> {
    let known = |name, value: Option<String>| value.map(|value| (name, value));
    let really = record.facts.as_ref();
    let size = format!(
        "{} cpu, {} MiB memory, {} MiB disk, {} processes",
        record.vcpus, record.memory_mb, record.disk_mb, record.pids
    );
    let forks = (record.fork_count > 0).then(|| record.fork_count.to_string());
    let volumes: Vec<_> = (record.volumes.iter())
        .map(|volume| format!("{}:{}", volume.name, volume.path))
        .collect();
    let all = [
        known("id", Some(record.sandbox_id.to_string())),
        known("name", record.name.clone()),
        known("status", Some(record.status.to_string())),
        known("failure", record.failure_message.clone()),
        known("project", record.project.clone()),
        known("region", Some(record.region.clone())),
        known("image", Some(record.image.clone())),
        known("size", Some(size)),
        known("network", Some(record.network.clone())),
        known("volumes", list(&volumes)),
        known("published", list(&published(record))),
        known("allowed", list(&record.egress.allow)),
        known("denied", record.egress.deny.as_deref().and_then(list)),
        known("driver", really.map(driver)),
        known("privilege", really.map(|f| f.privilege.clone())),
        known("storage", really.map(|f| f.storage.clone())),
        known("limits", really.map(|f| limits(f.limits, f.disk_quota))),
        known("forked from", record.forked_from.map(|id| id.to_string())),
        known("forks", forks),
        known("environment", list(&record.env_names)),
        known(
            "labels",
            list(
                &record
                    .metadata
                    .iter()
                    .map(|(k, v)| format!("{k}={v}"))
                    .collect::<Vec<_>>(),
            ),
        ),
        known("created", Some(record.created_at.to_string())),
        known("expires", record.expires_at.map(|at| at.to_string())),
        known("ended", record.ended_at.map(|at| at.to_string())),
        known(
            "boot",
            record
                .boot_us
                .map(|us| format!("{:.1} ms", us as f64 / 1000.0)),
        ),
    ];
    all.into_iter().flatten().collect()
}

/// Where each port is reached, and which it is.
fn published(record: &Record) -> Vec<String> {
    let published = record.published.iter();
    published
        .map(|one| format!("{} at {}", one.port, one.url))
        .collect()
}

fn driver(facts: &Facts) -> String {
    let on = facts.accelerator.as_ref();
    let on = on.map(|on| format!(" on {on}")).unwrap_or_default();
    format!("{}{on} ({} isolation)", facts.driver, facts.isolation)
}

fn limits(memory: bool, disk: bool) -> String {
    let binds = |does| if does { "enforced" } else { "not enforced" };
    format!(
        "memory, cpu and processes {}; disk {}",
        binds(memory),
        binds(disk)
    )
}

fn list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| items.join(", "))
}
