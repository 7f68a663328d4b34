//! `logs`: what was written in a sandbox, or by one exec; also after the sandbox ended.

use std::process::ExitCode;

use clap::Args;
use skerry_api::Event;
use skerry_client::{Output, Sandbox};
use skerry_types::{ErrorCode, ExecId};

use super::output::{self, note, printable};
use super::{Context, Outcome};

/// Show what was written in a sandbox, or by one exec; also after it ended
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry logs build            # everything
  skerry logs build 3          # what exec 3 wrote
  skerry logs -f build         # and what comes, until the sandbox ends")]
pub(crate) struct LogsArgs {
    /// Go on with what comes; resumes without a gap when the connection breaks
    #[arg(short, long)]
    follow: bool,
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    /// The exec: its number or id; all of them unless given
    exec: Option<String>,
}

pub(super) async fn logs(ctx: &Context, args: LogsArgs) -> Outcome {
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    match args.exec {
        Some(exec) => {
            let exec = ctx.exec(&sandbox, &exec).await?;
            if args.follow || ctx.out.json {
                follow_exec(ctx, &sandbox, exec, args.follow).await?;
            } else {
                let mut log = sandbox.log(exec).await?;
                while let Some(bytes) = log.chunk().await? {
                    output::bytes(&bytes)?;
                }
            }
        }
        None => whole(ctx, &sandbox, args.follow).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `live`: to its end; otherwise as far as it has come.
async fn follow_exec(
    ctx: &Context,
    sandbox: &Sandbox,
    exec: ExecId,
    live: bool,
) -> anyhow::Result<()> {
    let known = sandbox.exec(exec).await?;
    let mut left = known.stdout_bytes + known.stderr_bytes;
    let mut events = sandbox.follow(exec, 0);
    while live || left > 0 || known.end.is_some() {
        let Some(event) = events.next().await? else {
            break;
        };
        if ctx.out.json {
            output::json_line(&event)?;
        }
        if let Output::Stdout(bytes) | Output::Stderr(bytes) = Output::of(event)? {
            left = left.saturating_sub(bytes.len() as u64);
            if !ctx.out.json {
                output::bytes(&bytes)?;
            }
        }
    }
    Ok(())
}

async fn whole(ctx: &Context, sandbox: &Sandbox, follow: bool) -> anyhow::Result<()> {
    let mut printer = Printer { ctx, last: None };
    let mut events = Record::open(sandbox, follow);
    while let Some(event) = events.next().await? {
        printer.print(&event)?;
    }
    Ok(())
}

/// Output of several execs in their order, with a word on stderr when another one goes on.
struct Printer<'a> {
    ctx: &'a Context,
    last: Option<ExecId>,
}

impl Printer<'_> {
    fn print(&mut self, event: &Event) -> anyhow::Result<()> {
        let Some((exec, output)) = Output::of_record(event)? else {
            return Ok(());
        };
        if self.ctx.out.json {
            return output::json_line(event);
        }
        if self.last.replace(exec) != Some(exec) {
            note(&format!("==> {} <==", printable(&exec.to_string())));
        }
        match output {
            Output::Stdout(bytes) | Output::Stderr(bytes) => output::bytes(&bytes),
            Output::Exit(_) => Ok(()),
        }
    }
}

/// The record of a sandbox: what there is of it, or all of it until the sandbox has ended.
pub(crate) enum Record<'a> {
    Past {
        sandbox: &'a Sandbox,
        page: std::vec::IntoIter<Event>,
        cursor: Option<String>,
        begun: bool,
    },
    Live {
        sandbox: &'a Sandbox,
        events: Box<skerry_client::Follow<Event>>,
        over: bool,
    },
}

impl<'a> Record<'a> {
    pub(crate) fn open(sandbox: &'a Sandbox, follow: bool) -> Self {
        if follow {
            let events = Box::new(sandbox.follow_events(0));
            return Self::Live {
                sandbox,
                events,
                over: false,
            };
        }
        Self::Past {
            sandbox,
            page: Vec::new().into_iter(),
            cursor: None,
            begun: false,
        }
    }

    pub(crate) async fn next(&mut self) -> skerry_client::Result<Option<Event>> {
        match self {
            Self::Past {
                sandbox,
                page,
                cursor,
                begun,
            } => loop {
                if let Some(event) = page.next() {
                    return Ok(Some(event));
                }
                if *begun && cursor.is_none() {
                    return Ok(None);
                }
                let next = sandbox.events(cursor.as_deref()).await?;
                (*begun, *page, *cursor) = (true, next.events.into_iter(), next.next_cursor);
            },
            Self::Live { over: true, .. } => Ok(None),
            Self::Live {
                sandbox,
                events,
                over,
            } => {
                let event = events.next().await?;
                *over = match &event {
                    // It may have been started again since.
                    Some(event) => is_end(&event.kind) && has_ended(sandbox).await?,
                    None => true,
                };
                Ok(event)
            }
        }
    }
}

async fn has_ended(sandbox: &Sandbox) -> skerry_client::Result<bool> {
    match sandbox.get().await {
        Ok(record) => Ok(record.status.is_ended()),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(true),
        Err(error) => Err(error),
    }
}

/// After these nothing runs in a sandbox any more.
fn is_end(kind: &str) -> bool {
    matches!(
        kind,
        "sandbox.stopped" | "sandbox.failed" | "sandbox.deleted"
    )
}
