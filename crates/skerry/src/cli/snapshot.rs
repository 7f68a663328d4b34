//! `snapshot` and `rollback`: sandboxes frozen to disk, and going back to one.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use skerry_api::{MemoryWish, Snapshot, TakeSnapshot};

use super::output::{self, age, cell, maybe, note, size};
use super::{Context, Outcome};

/// Take, list and remove snapshots; `skerry create --image NAME` makes a sandbox from one
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  skerry snapshot create build --name ready
  skerry create --image ready
  skerry rollback build ready"
)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    what: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Take a snapshot of a running sandbox, and print its id
    #[command(visible_alias = "take")]
    Create {
        /// The sandbox: its name, its id, or the first letters of its id
        sandbox: String,
        /// A name to make sandboxes by
        #[arg(long)]
        name: Option<String>,
        /// Memory and processes too: where the driver does it anyway (all but ns), or nothing is done, or files only
        #[arg(long, value_enum, default_value_t = Memory::Auto)]
        memory: Memory,
        /// Take the name over from the snapshot that has it, and remove that one
        #[arg(long, requires = "name")]
        overwrite: bool,
    },
    /// List snapshots, newest first
    #[command(visible_alias = "list")]
    Ls {
        /// Only of this sandbox
        sandbox: Option<String>,
    },
    /// Remove snapshots; what was made from them lives on
    Rm {
        /// Their names or ids
        #[arg(required = true)]
        references: Vec<String>,
    },
}

/// Whether memory and processes are taken along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Memory {
    Auto,
    Required,
    None,
}

impl From<Memory> for MemoryWish {
    fn from(memory: Memory) -> Self {
        match memory {
            Memory::Auto => Self::Auto,
            Memory::Required => Self::Required,
            Memory::None => Self::None,
        }
    }
}

pub(super) async fn snapshot(ctx: &Context, args: SnapshotArgs) -> Outcome {
    match args.what {
        SnapshotCommand::Create {
            sandbox,
            name,
            memory,
            overwrite,
        } => {
            let request = TakeSnapshot {
                name,
                memory: memory.into(),
                overwrite,
            };
            let taken = ctx.sandbox(&sandbox).await?.take_snapshot(&request).await?;
            if ctx.out.json {
                output::json(&taken)?;
            } else {
                output::line(&taken.snapshot_id.to_string())?;
            }
        }
        SnapshotCommand::Ls { sandbox } => ls(ctx, sandbox).await?,
        SnapshotCommand::Rm { references } => {
            for reference in references {
                ctx.client.remove_snapshot(&reference).await?;
                note(&format!("removed {reference}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ls(ctx: &Context, sandbox: Option<String>) -> anyhow::Result<()> {
    let found = match sandbox {
        Some(sandbox) => ctx.sandbox(&sandbox).await?.snapshots().await?,
        None => ctx.client.snapshots().await?,
    };
    if ctx.out.json {
        return output::json(&found);
    }
    let head = ["ID", "NAME", "KIND", "SIZE", "AGE", "DRIVER", "SANDBOX"];
    ctx.out.table(&head, found.iter().map(row).collect())
}

fn row(snapshot: &Snapshot) -> Vec<comfy_table::Cell> {
    vec![
        cell(snapshot.snapshot_id.to_string()),
        maybe(snapshot.name.as_deref()),
        cell(&snapshot.kind),
        cell(size(snapshot.bytes)),
        cell(age(snapshot.created_at)),
        cell(&snapshot.driver),
        cell(snapshot.sandbox_id.to_string()),
    ]
}

/// Put a running sandbox back to one of its own snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Its files are those of then, what runs in it ends, and its record goes on.

Example:
  skerry rollback build ready")]
pub(crate) struct RollbackArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    /// The snapshot: its name or id
    snapshot: String,
}

pub(super) async fn rollback(ctx: &Context, args: RollbackArgs) -> Outcome {
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    let record = sandbox.roll_back(&args.snapshot).await?;
    if ctx.out.json {
        output::json(&record)?;
    } else {
        let (id, to) = (record.sandbox_id, args.snapshot);
        output::line(&format!("{id} is as in snapshot {to}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
