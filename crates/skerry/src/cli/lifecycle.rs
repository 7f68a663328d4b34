//! `pause`, `resume`, `start` and `timeout`.

use std::process::ExitCode;

use clap::Args;
use skerry_api::{OnTimeout, Sandbox as Record, SetTimeout};

use super::create::WhatThen;
use super::{Context, Outcome, output, parse};

/// Freeze a sandbox, where its driver can
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry pause build")]
pub(crate) struct PauseArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
}

/// Go on with a paused sandbox
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry resume build")]
pub(crate) struct ResumeArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
}

/// Start a sandbox again that was stopped or failed, with the files that it had
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry stop build && skerry start build")]
pub(crate) struct StartArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
}

/// Change when a sandbox ends
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry timeout build 2h
  skerry timeout build --idle 10m --on-idle pause --auto-resume true")]
pub(crate) struct TimeoutArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    /// It ends after this time from now: 90s, 15m, 2h
    #[arg(value_name = "TIME", value_parser = parse::seconds, required_unless_present_any = ["idle", "on_timeout", "on_idle", "auto_resume"])]
    ttl: Option<u64>,
    /// An end that comes later already stays
    #[arg(long, requires = "ttl")]
    only_longer: bool,
    /// It ends when nothing used it for this long; 0: never
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    idle: Option<u64>,
    /// What happens to it then
    #[arg(long, value_name = "WHAT")]
    on_timeout: Option<WhatThen>,
    /// What happens when nothing used it for too long, if that is something else
    #[arg(long, value_name = "WHAT")]
    on_idle: Option<WhatThen>,
    /// Whether it wakes up when it is used while it is paused
    #[arg(long, value_name = "BOOL")]
    auto_resume: Option<bool>,
}

pub(super) async fn pause(ctx: &Context, args: PauseArgs) -> Outcome {
    let record = ctx.sandbox(&args.sandbox).await?.pause().await?;
    say(ctx, &record, record.status.as_str())
}

pub(super) async fn resume(ctx: &Context, args: ResumeArgs) -> Outcome {
    let record = ctx.sandbox(&args.sandbox).await?.resume().await?;
    say(ctx, &record, record.status.as_str())
}

pub(super) async fn start(ctx: &Context, args: StartArgs) -> Outcome {
    let record = ctx.sandbox(&args.sandbox).await?.start_again().await?;
    say(ctx, &record, record.status.as_str())
}

pub(super) async fn timeout(ctx: &Context, args: TimeoutArgs) -> Outcome {
    let request = SetTimeout {
        ttl_seconds: args.ttl,
        only_longer: args.only_longer,
        idle_seconds: args.idle,
        on_timeout: args.on_timeout.map(OnTimeout::from),
        on_idle: args.on_idle.map(OnTimeout::from),
        auto_resume: args.auto_resume,
    };
    let record = ctx
        .sandbox(&args.sandbox)
        .await?
        .set_timeout(&request)
        .await?;
    let end = record.expires_at.map(|at| format!("ends at {at}"));
    say(ctx, &record, end.as_deref().unwrap_or("has no end"))
}

fn say(ctx: &Context, record: &Record, what: &str) -> Outcome {
    if ctx.out.json {
        output::json(record)?;
    } else {
        output::line(&format!("{} {what}", record.sandbox_id))?;
    }
    Ok(ExitCode::SUCCESS)
}
