//! `execs` and `ps`: what ran in a sandbox, and what runs.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;
use skerry_api::{Command, Exec};

use super::output::{self, age, cell, duration, size, status_cell};
use super::{Context, Outcome};

/// More of a command does not help in a table.
const COMMAND_CHARS: usize = 60;

/// List what was run in a sandbox; also after it ended
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry execs build")]
pub(crate) struct ExecsArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
}

pub(super) async fn execs(ctx: &Context, args: ExecsArgs) -> Outcome {
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    let execs = ctx.execs(&sandbox).await?;
    if ctx.out.json {
        output::json(&execs)?;
    } else {
        let head = [
            "#", "ID", "STATUS", "CODE", "TIME", "MEMORY", "AGE", "COMMAND",
        ];
        ctx.out.table(&head, execs.iter().map(row).collect())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(exec: &Exec) -> Vec<Cell> {
    let or_none = |text: Option<String>| cell(text.as_deref().unwrap_or("-"));
    let memory = exec
        .resource_usage
        .and_then(|usage| usage.peak_memory_bytes)
        .map(size);
    vec![
        Cell::new(exec.number),
        cell(exec.exec_id.to_string()),
        status_cell(exec.status, exec.exit_code),
        or_none(exec.exit_code.map(|code| code.to_string())),
        or_none(exec.duration_ms.map(duration)),
        or_none(memory),
        cell(age(exec.created_at)),
        cell(written(&exec.cmd)),
    ]
}

/// A command on one short line.
pub(crate) fn written(command: &Command) -> String {
    let whole = match command {
        Command::Shell(script) => script.clone(),
        Command::Argv(argv) => argv.join(" "),
    };
    if whole.chars().count() <= COMMAND_CHARS {
        return whole;
    }
    let cut: String = whole.chars().take(COMMAND_CHARS - 1).collect();
    format!("{cut}…")
}

/// List what runs in a sandbox now
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry ps build")]
pub(crate) struct PsArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
}

pub(super) async fn ps(ctx: &Context, args: PsArgs) -> Outcome {
    let list = ctx.sandbox(&args.sandbox).await?.processes().await?;
    if ctx.out.json {
        output::json(&list.processes)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = list.processes.iter().map(|process| {
        let command = written(&Command::Argv(process.argv.clone()));
        vec![
            Cell::new(process.pid),
            Cell::new(process.ppid),
            cell(command),
        ]
    });
    ctx.out
        .table(&["PID", "PARENT", "COMMAND"], rows.collect())?;
    Ok(ExitCode::SUCCESS)
}
