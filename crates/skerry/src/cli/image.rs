//! `image`: what sandboxes start from.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use skerry_api::{Image, PullEvent, RegistryLogin};

use super::failure::Failure;
use super::login::LoginArgs;
use super::output::{self, age, cell, note, printable, size};
use super::progress::Progress;
use super::transfer::{self, Source};
use super::{Context, Outcome};

/// Get, list and remove images, which sandboxes start from
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  skerry image ls
  skerry image pull docker.io/library/alpine:3
  skerry image build base
  docker save app | skerry image import - app"
)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    what: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// List the images on the server's machine
    #[command(visible_alias = "list")]
    Ls,
    /// Get an image from a registry
    #[command(after_help = "\
A login that `docker login` or `podman login` left in a file is sent along for
its registry. It serves this pull and is not kept by the server.

Examples:
  skerry image pull docker.io/library/alpine:3
  skerry image pull ghcr.io/org/app:1 --username me --password-stdin <token")]
    Pull {
        /// Its name: alpine:3, ghcr.io/org/app@sha256:…
        reference: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Build an image on the server's machine
    Build {
        /// Which: `base`, a Debian with python, git and curl
        #[arg(value_parser = ["base"])]
        name: String,
    },
    /// Import what `docker save` or an OCI tool wrote
    Import {
        /// An archive, a folder in the OCI layout, or - for an archive on stdin
        source: PathBuf,
        /// The image's name from then on
        reference: String,
    },
    /// Show what an image is
    #[command(visible_alias = "get")]
    Inspect {
        /// Its name
        reference: String,
    },
    /// Remove images; refused while a sandbox uses one
    Rm {
        /// Their names
        #[arg(required = true)]
        references: Vec<String>,
    },
}

pub(super) async fn image(ctx: &Context, args: ImageArgs) -> Outcome {
    match args.what {
        ImageCommand::Ls => ls(ctx).await?,
        ImageCommand::Pull { reference, login } => {
            let login = login.find(&reference)?;
            pull(ctx, &reference, login).await?;
        }
        ImageCommand::Build { name } => pull(ctx, &name, None).await?,
        ImageCommand::Import { source, reference } => import(ctx, source, &reference).await?,
        ImageCommand::Inspect { reference } => inspect(ctx, &reference).await?,
        ImageCommand::Rm { references } => {
            for reference in references {
                ctx.client.remove_image(&reference).await?;
                note(&format!("removed {reference}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ls(ctx: &Context) -> anyhow::Result<()> {
    let list = ctx.client.images().await?;
    if ctx.out.json {
        return output::json(&list.images);
    }
    let rows = list.images.iter().map(|image| {
        vec![
            cell(&image.reference),
            cell(&image.kind),
            cell(size(image.size_bytes)),
            cell(age(image.created_at)),
            cell(image.digest.get(..19).unwrap_or(&image.digest)),
        ]
    });
    let head = ["NAME", "KIND", "SIZE", "AGE", "DIGEST"];
    ctx.out.table(&head, rows.collect())
}

async fn pull(ctx: &Context, reference: &str, login: Option<RegistryLogin>) -> anyhow::Result<()> {
    let mut events = ctx.client.pull_image(reference, login).await?;
    let progress = Progress::start(reference, None);
    let mut step = String::new();
    while let Some(event) = events.next().await? {
        match event {
            PullEvent::Progress { .. } if ctx.out.json => output::json_line(&event)?,
            PullEvent::Progress {
                phase,
                done_bytes,
                total_bytes,
                message,
            } => {
                if !progress.is_shown() && step != phase {
                    note(&format!("{phase} {reference}"));
                    step.clone_from(&phase);
                }
                let what = match message.strip_prefix(&phase) {
                    Some(_) => message,
                    None => format!("{phase}: {message}"),
                };
                progress.set(printable(&what), done_bytes, total_bytes);
            }
            PullEvent::Done { image } => {
                drop(progress);
                return if ctx.out.json {
                    output::json_line(&PullEvent::Done { image })
                } else {
                    output::line(&image.reference)
                };
            }
        }
    }
    Err(
        Failure::failed("the connection broke before the image was there")
            .hint("the server goes on; `skerry image ls` shows when it is done")
            .into(),
    )
}

async fn import(ctx: &Context, source: PathBuf, reference: &str) -> anyhow::Result<()> {
    let progress = Progress::start(reference, None);
    let source =
        Source::open(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let body = transfer::body(source, progress);
    let image = ctx.client.import_image(reference, body).await?;
    if ctx.out.json {
        output::json(&image)
    } else {
        output::line(&image.reference)
    }
}

async fn inspect(ctx: &Context, reference: &str) -> anyhow::Result<()> {
    let image = ctx.client.image(reference).await?;
    if ctx.out.json {
        return output::json(&image);
    }
    for (name, value) in facts(&image) {
        output::line(&format!("{name:<10}{value}"))?;
    }
    Ok(())
}

fn facts(image: &Image) -> [(&'static str, String); 7] {
    [
        ("name", image.reference.clone()),
        ("kind", image.kind.clone()),
        ("digest", image.digest.clone()),
        ("size", size(image.size_bytes)),
        ("user", image.user.clone()),
        ("folder", image.workdir.clone()),
        ("created", image.created_at.to_string()),
    ]
}
