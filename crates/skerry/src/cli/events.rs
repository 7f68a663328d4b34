//! `events`: the record of a sandbox.

use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use skerry_api::{Command, Event, ResourceUsage};
use skerry_client::{Exit, Output};
use skerry_types::ExecEnd;

use super::attach::summary as summary_of;
use super::execs::written;
use super::logs::Record;
use super::{Context, Outcome, output};

/// More of a value does not help on a line.
const VALUE_CHARS: usize = 40;

/// Show what happened in a sandbox; also after it ended
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry events build
  skerry events -f build --json | jq .type")]
pub(crate) struct EventsArgs {
    /// Go on with what comes; resumes without a gap when the connection breaks
    #[arg(short, long)]
    follow: bool,
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
}

pub(super) async fn events(ctx: &Context, args: EventsArgs) -> Outcome {
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    let mut record = Record::open(&sandbox, args.follow);
    while let Some(event) = record.next().await? {
        if ctx.out.json {
            output::json_line(&event)?;
        } else {
            output::line(&line(&event)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(event: &Event) -> anyhow::Result<String> {
    let time = event.ts.strftime("%H:%M:%S%.3f");
    let what = match Output::of_record(event)? {
        Some((exec, Output::Stdout(bytes))) => format!("{exec} stdout, {} bytes", bytes.len()),
        Some((exec, Output::Stderr(bytes))) => format!("{exec} stderr, {} bytes", bytes.len()),
        _ => said(event).unwrap_or_else(|| summary(&event.data)),
    };
    let line = format!("{time} {:>5}  {:<20} {what}", event.seq, event.kind);
    Ok(line.trim_end().to_owned())
}

/// The start and the end of an exec in our own words.
fn said(event: &Event) -> Option<String> {
    let data = &event.data;
    let exec = data["exec_id"].as_str()?;
    let what = match event.kind.as_str() {
        "exec.started" => written(&Command::deserialize(&data["cmd"]).ok()?),
        "exec.completed" | "exec.failed" => summary_of(&Exit {
            end: ExecEnd::deserialize(&data["end"]).ok()?,
            duration_ms: data["duration_ms"].as_u64()?,
            usage: ResourceUsage::deserialize(&data["resource_usage"]).ok()?,
        }),
        _ => return None,
    };
    Some(format!("{exec} {what}"))
}

/// The fields that say something, as `name=value`.
fn summary(data: &Value) -> String {
    let Some(fields) = data.as_object() else {
        return String::new();
    };
    let said = fields.iter().filter(|(_, value)| !is_nothing(value));
    let words = said.map(|(name, value)| match value {
        Value::Object(_) => summary(value),
        _ => format!("{name}={}", short(value)),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        // What has fields of its own is for programs.
        Value::Array(items) => items.iter().all(Value::is_object),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn short(value: &Value) -> String {
    let whole = match value {
        Value::String(text) => text.replace('\n', " "),
        other => other.to_string(),
    };
    if whole.chars().count() <= VALUE_CHARS {
        return whole;
    }
    let cut: String = whole.chars().take(VALUE_CHARS - 1).collect();
    format!("{cut}…")
}
