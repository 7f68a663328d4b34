//! `cp`: files and folders, in and out.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use skerry_api::FileKind;
use skerry_client::Sandbox;
use skerry_proto::glob::Globs;
use skerry_types::ErrorCode;

use super::failure::Failure;
use super::output::{self, note};
use super::progress::Progress;
use super::transfer::{self, Source};
use super::{Context, Outcome};

/// Copy files and folders into a sandbox, or out of it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry cp src build:/work/src          # a folder, to /work/src, or into it if it is there
  skerry cp build:result.json .          # from where the image's programs start
  skerry cp - build:/tmp/in < data       # stdin and stdout are -
  skerry cp build:/work - | tar t        # a folder on stdout is a tar archive
  skerry cp --exclude .git,target . build:/work   # without what need not go along

A path that has a colon in its first part is meant as ./a:b.")]
pub(crate) struct CpArgs {
    /// PATH, SANDBOX:PATH, or - for stdin
    source: String,
    /// PATH, SANDBOX:PATH, or - for stdout
    target: String,
    /// What to leave out of a folder: *.log at any depth, /src/**/*.o from its top
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    exclude: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Copied {
    source: String,
    target: String,
}

enum Place<'a> {
    Here(&'a Path),
    There(&'a str, &'a str),
}

impl<'a> Place<'a> {
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((sandbox, path)) if !sandbox.is_empty() && !sandbox.contains('/') => {
                Self::There(sandbox, path)
            }
            _ => Self::Here(Path::new(text)),
        }
    }
}

pub(super) async fn cp(ctx: &Context, args: CpArgs) -> Outcome {
    let copied = match (Place::parse(&args.source), Place::parse(&args.target)) {
        (Place::Here(source), Place::There(sandbox, path)) => {
            let sandbox = ctx.sandbox(sandbox).await?;
            let path = absolute(ctx, &sandbox, path).await?;
            let target = upload(&sandbox, source, path, &args.exclude).await?;
            Copied {
                source: args.source,
                target,
            }
        }
        (Place::There(sandbox, path), Place::Here(target)) => {
            let sandbox = ctx.sandbox(sandbox).await?;
            let path = absolute(ctx, &sandbox, path).await?;
            let target = download(&sandbox, &path, target, &args.exclude).await?;
            if target == Path::new("-") {
                return Ok(ExitCode::SUCCESS);
            }
            Copied {
                source: path,
                target: target.display().to_string(),
            }
        }
        _ => {
            let message = "one of the two must be in a sandbox, and only one";
            return Err(Failure::usage(message)
                .hint("write it as SANDBOX:PATH")
                .into());
        }
    };
    if ctx.out.json {
        output::json(&copied)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A path that is not absolute starts where the image's programs start.
async fn absolute(ctx: &Context, sandbox: &Sandbox, path: &str) -> anyhow::Result<String> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let image = sandbox.get().await?.image;
    let start = ctx.client.image(&image).await?.workdir;
    Ok(below(&start, path))
}

fn below(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

async fn upload(
    sandbox: &Sandbox,
    from: &Path,
    mut to: String,
    exclude: &[String],
) -> anyhow::Result<String> {
    let mut source =
        Source::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    if to.ends_with('/') || is_folder(sandbox, &to).await? {
        let name = from.canonicalize().ok();
        let name = name
            .as_deref()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Failure::usage(format!("{to} is a folder")).hint("say under which name to write it")
        })?;
        to = below(&to, name);
    }
    let mut mode = None;
    let mut total = None;
    if let Source::File(file) = &source {
        let found = file.metadata()?;
        (mode, total) = (Some(found.permissions().mode()), Some(found.len()));
    }
    let left_out = if let Source::Folder(folder) = &mut source {
        folder.exclude = Globs::new(exclude);
        Some(folder.left_out.clone())
    } else {
        None
    };
    let body = transfer::body(source, Progress::start(&to, total));
    if let Some(left_out) = left_out {
        sandbox.write_tar(&to, body).await?;
        say_left_out(left_out.load(Ordering::Relaxed));
    } else {
        sandbox.write_file(&to, mode, body).await?;
    }
    Ok(to)
}

async fn is_folder(sandbox: &Sandbox, path: &str) -> anyhow::Result<bool> {
    match sandbox.stat(path).await {
        Ok(entry) => Ok(entry.kind == FileKind::Directory),
        // What is not there can be written; what stands in the way says so then.
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn download(
    sandbox: &Sandbox,
    from: &str,
    to: &Path,
    exclude: &[String],
) -> anyhow::Result<PathBuf> {
    let found = sandbox.stat(from).await?;
    let is_tree = found.kind == FileKind::Directory;
    let mut content = if is_tree {
        sandbox.read_tar(from, exclude).await?
    } else {
        sandbox.read_file(from).await?
    };
    if to == Path::new("-") {
        while let Some(chunk) = content.chunk().await? {
            output::bytes(&chunk)?;
        }
        return Ok(to.to_owned());
    }
    let mut to = to.to_owned();
    if to.is_dir() {
        to.push(name_of(from)?);
    }
    let progress = Progress::start(from, content.size());
    let written = if is_tree {
        transfer::unpack(content, to.clone(), &progress).await
    } else {
        transfer::save(content, &to, transfer::mode_of(&found), &progress)
            .await
            .map(|()| 0)
    };
    let left_out = written.with_context(|| format!("cannot copy it to {}", to.display()))?;
    drop(progress);
    say_left_out(left_out);
    Ok(to)
}

fn say_left_out(entries: usize) {
    if entries > 0 {
        note(&format!(
            "{entries} pipes, sockets or devices were left out"
        ));
    }
}

/// The last part of a path in a sandbox, which must be a name.
fn name_of(path: &str) -> Result<&str, Failure> {
    let name = path.rsplit('/').find(|part| !part.is_empty());
    name.filter(|name| !matches!(*name, "." | ".."))
        .ok_or_else(|| {
            Failure::usage(format!("{path} has no name")).hint("say under which name to write it")
        })
}
