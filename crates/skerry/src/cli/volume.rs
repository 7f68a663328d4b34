//! `volume`: folders that outlive sandboxes, and files in and out of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use skerry_api::{CreateVolume, Volume};

use super::failure::Failure;
use super::output::{self, age, cell, note, size};
use super::progress::Progress;
use super::transfer::{self, Source};
use super::{Context, Outcome, parse};

/// Make, list, fill and remove volumes; `skerry create --volume NAME:/PATH` gives one to a sandbox
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  skerry volume create models --size 4G
  skerry volume put models weights.bin /v1/weights.bin
  skerry create --volume models:/models"
)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    what: VolumeCommand,
}

#[derive(Debug, Subcommand)]
enum VolumeCommand {
    /// Make a volume, and print its id
    Create {
        /// Its name
        name: String,
        /// What it may hold: 512M, 2G
        #[arg(long, value_name = "SIZE", value_parser = parse::mebibytes)]
        size: Option<u32>,
    },
    /// List volumes, newest first
    #[command(visible_alias = "list")]
    Ls,
    /// Remove volumes that no sandbox has, with all that is in them
    Rm {
        /// Their names or ids
        #[arg(required = true)]
        references: Vec<String>,
    },
    /// Copy a file into a volume
    Put {
        /// The volume: its name or id
        volume: String,
        /// A file here
        file: PathBuf,
        /// Where in the volume, from its root
        path: String,
    },
    /// Copy a file out of a volume
    Get {
        /// The volume: its name or id
        volume: String,
        /// Which file, from the volume's root
        path: String,
        /// Where to write it here
        file: PathBuf,
    },
}

pub(super) async fn volume(ctx: &Context, args: VolumeArgs) -> Outcome {
    match args.what {
        VolumeCommand::Create { name, size } => {
            let request = CreateVolume {
                name,
                size_mb: size.map(u64::from),
            };
            let made = ctx.client.create_volume(&request).await?;
            if ctx.out.json {
                output::json(&made)?;
            } else {
                output::line(&made.volume_id.to_string())?;
            }
        }
        VolumeCommand::Ls => ls(ctx).await?,
        VolumeCommand::Rm { references } => {
            for reference in references {
                ctx.client.remove_volume(&reference).await?;
                note(&format!("removed {reference}"));
            }
        }
        VolumeCommand::Put { volume, file, path } => put(ctx, &volume, &file, &path).await?,
        VolumeCommand::Get { volume, path, file } => get(ctx, &volume, &path, &file).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ls(ctx: &Context) -> anyhow::Result<()> {
    let found = ctx.client.volumes().await?;
    if ctx.out.json {
        return output::json(&found);
    }
    let head = ["ID", "NAME", "SIZE", "AGE"];
    ctx.out.table(&head, found.iter().map(row).collect())
}

fn row(volume: &Volume) -> Vec<comfy_table::Cell> {
    vec![
        cell(volume.volume_id.to_string()),
        cell(&volume.name),
        cell(size(u64::from(volume.size_mb) << 20)),
        cell(age(volume.created_at)),
    ]
}

async fn put(ctx: &Context, volume: &str, file: &Path, path: &str) -> anyhow::Result<()> {
    let source = Source::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let Source::File(found) = &source else {
        let message = format!("{} is no file", file.display());
        return Err(Failure::usage(message)
            .hint("copy folders from a sandbox that has the volume, with `skerry cp`")
            .into());
    };
    let progress = Progress::start(path, Some(found.metadata()?.len()));
    let body = transfer::body(source, progress);
    ctx.client.write_volume_file(volume, path, body).await?;
    Ok(())
}

async fn get(ctx: &Context, volume: &str, path: &str, file: &Path) -> anyhow::Result<()> {
    let found = ctx.client.stat_volume_file(volume, path).await?;
    let content = ctx.client.read_volume_file(volume, path).await?;
    let progress = Progress::start(path, content.size());
    let saved = transfer::save(content, file, found.mode, &progress).await;
    saved.with_context(|| format!("cannot copy it to {}", file.display()))
}
