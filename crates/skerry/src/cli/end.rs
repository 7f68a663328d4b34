//! `stop`, `rm` and `clean`: the ends of sandboxes.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use futures::future::join_all;
use serde::Serialize;
use skerry_client::{ClientError, ListSandboxes, Sandbox};
use skerry_types::{ErrorCode, SandboxId, SandboxState};

use super::failure::{Failure, report};
use super::output::{self, note};
use super::{Context, Outcome};

/// Longer than a sandbox may take to end.
const STOP_SECONDS: u64 = 60;

/// Stop sandboxes; their files stay until they are deleted
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry stop build test")]
pub(crate) struct StopArgs {
    /// Sandboxes: names, ids, or the first letters of ids
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
    /// Do not wait until they have ended
    #[arg(long)]
    no_wait: bool,
}

/// Delete sandboxes with all they have
#[derive(Debug, Args)]
#[command(
    visible_alias = "delete",
    after_help = "Example:\n  skerry rm build test"
)]
pub(crate) struct RmArgs {
    /// Sandboxes: names, ids, or the first letters of ids
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
    /// One that is not there is fine
    #[arg(short, long)]
    force: bool,
}

/// Delete all sandboxes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry clean --force")]
pub(crate) struct CleanArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Serialize)]
struct Ended {
    sandbox_id: SandboxId,
    status: SandboxState,
}

pub(super) async fn stop(ctx: &Context, args: StopArgs) -> Outcome {
    let stopped = args.sandboxes.iter().map(|text| async move {
        let sandbox = ctx.sandbox(text).await?;
        let mut status = sandbox.stop().await?.status;
        if !args.no_wait && !status.is_ended() {
            status = sandbox.wait_ended(STOP_SECONDS).await?.status;
        }
        Ok(Some(Ended {
            sandbox_id: sandbox.id(),
            status,
        }))
    });
    say(ctx, join_all(stopped).await)
}

pub(super) async fn rm(ctx: &Context, args: RmArgs) -> Outcome {
    let removed = args.sandboxes.iter().map(|text| async move {
        match remove_named(ctx, text).await {
            Err(error) if args.force && is_not_found(&error) => Ok(None),
            done => done.map(Some),
        }
    });
    say(ctx, join_all(removed).await)
}

async fn remove_named(ctx: &Context, text: &str) -> anyhow::Result<Ended> {
    remove(&ctx.sandbox(text).await?).await
}

async fn remove(sandbox: &Sandbox) -> anyhow::Result<Ended> {
    let deleted = sandbox.delete().await?;
    Ok(Ended {
        sandbox_id: deleted.sandbox_id,
        status: deleted.status,
    })
}

fn is_not_found(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<ClientError>() {
        Some(error) => error.code() == Some(ErrorCode::NotFound),
        None => error
            .downcast_ref::<Failure>()
            .is_some_and(Failure::is_not_found),
    }
}

pub(super) async fn clean(ctx: &Context, args: CleanArgs) -> Outcome {
    let found = ctx.client.list_all(ListSandboxes::default()).await?;
    if found.is_empty() {
        note("there are no sandboxes");
    } else if !args.force && !agree(found.len())? {
        return Err(Failure::failed("nothing was deleted").into());
    }
    let removed = found.iter().map(|record| async move {
        let sandbox = ctx.client.sandbox(record.sandbox_id);
        remove(&sandbox).await.map(Some)
    });
    say(ctx, join_all(removed).await)
}

fn agree(number: usize) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let message = format!("this would delete {}", counted(number));
        return Err(Failure::usage(message)
            .hint("say --force if you mean it")
            .into());
    }
    let mut stderr = io::stderr().lock();
    write!(
        stderr,
        "Delete {} with all they have? [y/N] ",
        counted(number)
    )?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn counted(number: usize) -> String {
    match number {
        1 => "1 sandbox".to_owned(),
        _ => format!("{number} sandboxes"),
    }
}

/// Prints what was done, and reports each failure; the code of the last failure counts.
fn say(ctx: &Context, done: Vec<anyhow::Result<Option<Ended>>>) -> Outcome {
    let mut ended = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for outcome in done {
        match outcome {
            Ok(one) => ended.extend(one),
            Err(error) => code = report(&error),
        }
    }
    if ctx.out.json {
        output::json(&ended)?;
        return Ok(code);
    }
    for one in ended {
        output::line(&one.sandbox_id.to_string())?;
    }
    Ok(code)
}
