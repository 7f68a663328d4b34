//! `run`: one command in a sandbox of its own.

use std::io::{self, IsTerminal};

use clap::Args;
use skerry_client::Sandbox;
use skerry_types::{ErrorCode, SandboxState};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::attach::{attach, finish};
use super::create::{Spec, remark, say_published};
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
    let stdin = args.interactive || !io::stdin().is_terminal();
    // Someone who gives up meanwhile must not leave a sandbox behind.
    let given_up = GivenUp::new()?;
    let made = ctx.client.create(&args.spec.request()).await?;
    let sandbox = ctx.client.sandbox(made.sandbox_id);
    let outcome = run_in(ctx, &sandbox, given_up, &args.how, stdin).await;
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
    mut given_up: GivenUp,
    how: &How,
    stdin: bool,
) -> Outcome {
    tokio::select! {
        biased;
        () = given_up.wait() => return Err(Failure::failed("interrupted").into()),
        running = wait(sandbox) => running?,
    }
    let started = sandbox.start(&how.request(&[], stdin)).await?;
    let exit = attach(ctx, sandbox, started.exec_id, stdin).await?;
    Ok(finish(&exit, how.stats))
}

/// Someone who interrupts or ends us.
struct GivenUp {
    int: Signal,
    term: Signal,
}

impl GivenUp {
    fn new() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

/// Waits until a sandbox runs.
async fn wait(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut record = sandbox.get().await?;
    while matches!(
        record.status,
        SandboxState::Queued | SandboxState::Provisioning
    ) {
        if let Some(remark) = remark(&record) {
            note(&remark);
        }
        record = match sandbox.wait_running(WAIT_SECONDS).await {
            // It waits in the queue for as long as it was said it may.
            Err(error) if error.code() == Some(ErrorCode::RequestTimeout) => sandbox.get().await?,
            waited => waited?,
        };
    }
    if record.status == SandboxState::Running {
        say_published(&record);
        return Ok(());
    }
    let why = record
        .failure_message
        .unwrap_or_else(|| format!("it is {}", record.status));
    Err(Failure::failed(format!("the sandbox did not start: {why}")).into())
}
