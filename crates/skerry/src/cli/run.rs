//! `run`: one command in a sandbox of its own.

use std::io::IsTerminal;

use clap::Args;
use skerry_client::Sandbox;
use skerry_types::SandboxState;

use super::attach::{attach, finish};
use super::create::{Spec, remark};
use super::exec::How;
use super::failure::Failure;
use super::output::note;
use super::{Context, Outcome};

/// A queued sandbox is waited for in steps of this many seconds.
const WAIT_SECONDS: u64 = 300;

/// Run one command in a new sandbox, which is deleted afterwards; ends with its exit code
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry run -- python3 -c 'print(2 ** 100)'
  skerry run --image base --network none 'ls -la / | head'
  echo 'print(\"hi\")' | skerry run --timeout 10s -- python3 -

What is piped in goes to the command. Ctrl-C is passed on; a second one kills it.")]
pub(crate) struct RunArgs {
    /// Keep the sandbox
    #[arg(long)]
    keep: bool,
    /// Give it what we get on stdin, also from a terminal
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    spec: Spec,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(ctx: &Context, args: RunArgs) -> Outcome {
    let stdin = args.interactive || !std::io::stdin().is_terminal();
    let made = ctx.client.create(&args.spec.request()).await?;
    let sandbox = ctx.client.sandbox(made.sandbox_id);
    let outcome = run_in(ctx, &sandbox, made.status, &args.how, stdin).await;
    if args.keep {
        note(&format!("kept {}", sandbox.id()));
        return outcome;
    }
    let deleted = sandbox.delete().await;
    let code = outcome?;
    deleted?;
    Ok(code)
}

async fn run_in(
    ctx: &Context,
    sandbox: &Sandbox,
    status: SandboxState,
    how: &How,
    stdin: bool,
) -> Outcome {
    wait(sandbox, status).await?;
    let started = sandbox.start(&how.request(&[], stdin)).await?;
    let exit = attach(ctx, sandbox, started.exec_id, stdin).await?;
    Ok(finish(&exit, how.stats))
}

/// Waits for a sandbox that does not run yet.
async fn wait(sandbox: &Sandbox, status: SandboxState) -> anyhow::Result<()> {
    if status == SandboxState::Running {
        return Ok(());
    }
    let mut record = sandbox.get().await?;
    while matches!(
        record.status,
        SandboxState::Queued | SandboxState::Provisioning
    ) {
        if let Some(remark) = remark(&record) {
            note(&remark);
        }
        record = sandbox.wait_running(WAIT_SECONDS).await?;
    }
    match record.status {
        SandboxState::Running => Ok(()),
        _ => Err(Failure::failed(remark(&record).unwrap_or_default()).into()),
    }
}
