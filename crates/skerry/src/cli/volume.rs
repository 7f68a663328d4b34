//! `volume`: folders that outlive sandboxes, and files in and out of them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use skerry_api::{CreateVolume, Volume};

use super::output::{self, age, cell, note, size};
use super::{Context, Outcome, parse, volume_copy};

/// Make, list, fill and remove volumes; `skerry create --volume NAME:/PATH` gives one to a sandbox
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  skerry volume create models --size 4G
  skerry volume put models weights.bin /v1/weights.bin
  skerry volume get models / copy
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
    /// Copy a file into a volume, or all that a folder has
    Put {
        /// The volume: its name or id
        volume: String,
        /// A file or folder here, or - for stdin
        file: PathBuf,
        /// Where in the volume, from its root
        path: String,
    },
    /// Copy a file out of a volume, or all that a folder of it has
    Get {
        /// The volume: its name or id
        volume: String,
        /// Which file or folder, from the volume's root
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
        VolumeCommand::Put { volume, file, path } => {
            volume_copy::put(ctx, &volume, &file, &path).await?;
        }
        VolumeCommand::Get { volume, path, file } => {
            volume_copy::get(ctx, &volume, &path, &file).await?;
        }
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
