//! `template`: named images with defaults, built from a Dockerfile or a TOML recipe.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use skerry_api::recipe::{
    Action, ParseError, READY_MADE, ReadyMade, Recipe, dockerfile, document, ready_made,
};
use skerry_api::{Build, BuildLogLine, BuildStatus, StartBuild, Template};

use super::context::BuildContext;
use super::failure::Failure;
use super::output::{self, age, cell, maybe, note};
use super::progress::Progress;
use super::transfer::{self, Source};
use super::{Context, Outcome, parse};

/// Build, list and remove templates; `skerry create --image NAME` makes a sandbox from one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry template build -t app .
  skerry create --image app
  skerry template logs app")]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    what: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    Build(Box<BuildArgs>),
    /// List templates, newest first
    #[command(visible_alias = "list")]
    Ls,
    /// Show a template and its latest builds
    Inspect {
        /// Its name or id
        template: String,
    },
    /// Remove templates; what was made from them lives on
    Rm {
        /// Their names or ids
        #[arg(required = true)]
        templates: Vec<String>,
    },
    /// Show the log of a template's latest build, to its end
    Logs {
        /// Its name or id
        template: String,
    },
}

/// Build a template, and print its name
#[derive(Debug, Args)]
#[command(after_help = "\
Steps that did not change since an earlier build are not done again. Ctrl-C
calls the build off.

Examples:
  skerry template build -t app:v2 --build-arg VERSION=2 .
  skerry template build --ready-made python
  skerry template build -t web --start './serve' --ready 'curl -sf localhost:80' .")]
struct BuildArgs {
    /// The folder to copy from
    #[arg(value_name = "CONTEXT", required_unless_present = "ready_made")]
    context: Option<PathBuf>,
    /// Its name, and a tag if it shall not be `latest`
    #[arg(
        short,
        long,
        value_name = "NAME[:TAG]",
        required_unless_present = "ready_made"
    )]
    tag: Option<String>,
    /// One that comes with the program, from Debian's packages: node, python or code-interpreter-v1
    #[arg(long, value_name = "NAME", value_parser = READY_MADE.iter().map(|one| one.name).collect::<Vec<_>>(), conflicts_with_all = ["context", "file", "build_arg"])]
    ready_made: Option<String>,
    /// A Dockerfile, or a recipe whose name ends with .toml; Dockerfile or skerry.toml of the context unless given
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A value for an ARG; without a value, the one it has here
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    build_arg: Vec<(String, String)>,
    /// Do every step again
    #[arg(long)]
    no_cache: bool,
    /// A command that goes on running in what is made from it, or is started there again
    #[arg(long, value_name = "COMMAND", requires = "ready")]
    start: Option<String>,
    /// A command that succeeds once that is ready
    #[arg(long, value_name = "COMMAND", requires = "start")]
    ready: Option<String>,
    /// A named size: small, medium or large
    #[arg(long, value_name = "SIZE")]
    profile: Option<String>,
    /// Processors' worth of time
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory: 512M, 2G
    #[arg(long, value_name = "SIZE", value_parser = parse::mebibytes)]
    memory: Option<u32>,
    /// Space for what it writes: 512M, 2G
    #[arg(long, value_name = "SIZE", value_parser = parse::mebibytes)]
    disk: Option<u32>,
    /// Its network: none, or nat for a way out
    #[arg(long, value_name = "KIND")]
    network: Option<String>,
    /// What its programs may: restricted, or root for root and sudo inside it
    #[arg(long, value_name = "LEVEL")]
    privilege: Option<String>,
    /// The driver to use
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
}

pub(super) async fn template(ctx: &Context, args: TemplateArgs) -> Outcome {
    match args.what {
        TemplateCommand::Build(args) => return build(ctx, *args).await,
        TemplateCommand::Ls => ls(ctx).await?,
        TemplateCommand::Inspect { template } => inspect(ctx, &template).await?,
        TemplateCommand::Rm { templates } => {
            for template in templates {
                ctx.client.remove_template(&template).await?;
                note(&format!("removed {template}"));
            }
        }
        TemplateCommand::Logs { template } => logs(ctx, &template).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn build(ctx: &Context, args: BuildArgs) -> Outcome {
    let (file, mut recipe) = recipe(&args)?;
    let unpacked = match args.ready_made.as_deref().and_then(ready_made) {
        Some(ready_made) => Some(unpack(ready_made).context("cannot unpack what it copies")?),
        None => None,
    };
    let unpacked = unpacked.as_ref().map(tempfile::TempDir::path);
    if let Some(context) = unpacked.or(args.context.as_deref()) {
        let sent = send_files(ctx, context, &mut recipe).await;
        sent.with_context(|| file.clone())?;
    }
    let tag = args.tag.or(args.ready_made).unwrap_or_default();
    let request = StartBuild {
        recipe,
        no_cache: args.no_cache,
        profile: args.profile,
        vcpus: args.cpus,
        memory_mb: args.memory,
        disk_mb: args.disk,
        network: args.network,
        privilege: args.privilege,
        driver: args.driver,
        ..StartBuild::default()
    };
    let begun = ctx.client.start_build(&tag, &request).await?;
    let name = tag.split(':').next().unwrap_or_default();
    let ended = tokio::select! {
        ended = follow(ctx, name, &begun) => ended?,
        _ = tokio::signal::ctrl_c() => {
            note("calling it off");
            ctx.client.cancel_build(name, begun.build_id).await?
        }
    };
    if ended.status != BuildStatus::Ready {
        let why = ended.reason.as_deref().unwrap_or("nobody knows why");
        return Err(Failure::failed(format!("{file}: {why}")).into());
    }
    if ctx.out.json {
        output::json_line(&ended)?;
    } else {
        output::line(&tag)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What its errors call it, and the recipe.
fn recipe(args: &BuildArgs) -> anyhow::Result<(String, Recipe)> {
    let (name, read) = if let Some(ready_made) = args.ready_made.as_deref().and_then(ready_made) {
        (ready_made.name.to_owned(), ready_made.recipe())
    } else {
        let file = match (&args.file, &args.context) {
            (None, Some(context)) => find_file(context)?,
            (file, _) => file.clone().unwrap_or_default(),
        };
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
        let read = if file.extension().is_some_and(|end| end == "toml") {
            document(&text)
        } else {
            dockerfile(&text, &parse::map(&args.build_arg))
        };
        (name, read)
    };
    let mut recipe = read.map_err(|error: ParseError| {
        let failure = Failure::failed(format!("{name}: {error}"));
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    if args.start.is_some() {
        (recipe.start, recipe.ready) = (args.start.clone(), args.ready.clone());
    }
    Ok((name, recipe))
}

/// The folder that it copies from.
fn unpack(ready_made: &ReadyMade) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (path, content) in ready_made.files {
        let path = folder.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)?;
    }
    Ok(folder)
}

fn find_file(context: &Path) -> Result<PathBuf, Failure> {
    let names = ["Dockerfile", "skerry.toml"].map(|name| context.join(name));
    let found = names.into_iter().find(|file| file.is_file());
    found.ok_or_else(|| {
        let text = format!(
            "{} has neither Dockerfile nor skerry.toml",
            context.display()
        );
        Failure::usage(text).hint("--file names another")
    })
}

/// Uploads what the steps copy, unless it is there, and says in the recipe under which name.
async fn send_files(ctx: &Context, folder: &Path, recipe: &mut Recipe) -> anyhow::Result<()> {
    let context = BuildContext::open(folder)?;
    for step in &mut recipe.steps {
        let Action::Copy { sources, files, .. } = &mut step.action else {
            continue;
        };
        let at = || match step.line {
            Some(line) => format!("line {line}: {}", step.text),
            None => step.text.clone(),
        };
        let mut paths = Vec::new();
        for source in &*sources {
            paths.extend(context.expand(source).with_context(at)?);
        }
        let packed = context.pack(&paths).with_context(at)?;
        if !ctx.client.has_upload(&packed.hash).await? {
            let progress = Progress::start(&step.text, Some(packed.bytes));
            let body = transfer::body(Source::File(packed.archive), progress);
            ctx.client.upload(&packed.hash, body).await?;
        }
        // The top of the context is `.` where a source must have a name.
        *sources = paths
            .into_iter()
            .map(|path| {
                if path.is_empty() {
                    ".".to_owned()
                } else {
                    path
                }
            })
            .collect();
        *files = packed.hash;
    }
    Ok(())
}

/// Shows what it says, to its end.
async fn follow(ctx: &Context, name: &str, build: &Build) -> anyhow::Result<Build> {
    let mut lines = ctx.client.follow_build(name, build.build_id, 0);
    while let Some(line) = lines.next().await? {
        if ctx.out.json {
            output::json_line(&line)?;
        } else if let Some(text) = shown(&line) {
            note(&text);
        }
    }
    Ok(ctx.client.build(name, build.build_id).await?)
}

/// The end is told in words of our own.
fn shown(line: &BuildLogLine) -> Option<String> {
    match &*line.level {
        "end" | "error" => None,
        "output" => Some(format!("  {}", line.message)),
        _ => Some(line.message.clone()),
    }
}

async fn ls(ctx: &Context) -> anyhow::Result<()> {
    let found = ctx.client.templates().await?;
    if ctx.out.json {
        return output::json(&found);
    }
    let rows = found.iter().map(row).collect();
    ctx.out.table(&["NAME", "TAGS", "AGE", "ID"], rows)
}

fn row(template: &Template) -> Vec<comfy_table::Cell> {
    let tags: Vec<&str> = template.tags.iter().map(|tag| &*tag.tag).collect();
    let tags = tags.join(" ");
    vec![
        cell(&template.name),
        maybe(Some(&*tags).filter(|tags| !tags.is_empty())),
        cell(age(template.created_at)),
        cell(template.template_id.to_string()),
    ]
}

#[derive(serde::Serialize)]
struct Inspected {
    #[serde(flatten)]
    template: Template,
    builds: Vec<Build>,
}

async fn inspect(ctx: &Context, reference: &str) -> anyhow::Result<()> {
    let template = ctx.client.template(reference).await?;
    let builds = ctx.client.builds(reference).await?;
    if ctx.out.json {
        return output::json(&Inspected { template, builds });
    }
    for tag in &template.tags {
        output::line(&format!("{}:{}  {}", template.name, tag.tag, tag.build_id))?;
    }
    let rows = builds.iter().map(build_row).collect();
    ctx.out.table(
        &[
            "BUILD", "STATUS", "AGE", "SNAPSHOT", "USER", "FOLDER", "PORTS",
        ],
        rows,
    )
}

fn build_row(build: &Build) -> Vec<comfy_table::Cell> {
    let status = match build.status {
        BuildStatus::Waiting => "waiting",
        BuildStatus::Building => "building",
        BuildStatus::Ready => "ready",
        BuildStatus::Error => "error",
    };
    let defaults = build.defaults.as_ref();
    let ports = defaults.map(|defaults| {
        let ports: Vec<String> = defaults.ports.iter().map(ToString::to_string).collect();
        ports.join(" ")
    });
    vec![
        cell(build.build_id.to_string()),
        cell(status),
        cell(age(build.created_at)),
        maybe(build.snapshot_id.map(|id| id.to_string()).as_deref()),
        maybe(defaults.map(|defaults| &*defaults.user)),
        maybe(defaults.map(|defaults| &*defaults.workdir)),
        maybe(ports.as_deref().filter(|ports| !ports.is_empty())),
    ]
}

async fn logs(ctx: &Context, reference: &str) -> anyhow::Result<()> {
    let builds = ctx.client.builds(reference).await?;
    let Some(latest) = builds.first() else {
        return Err(Failure::not_found(format!("template {reference} was never built")).into());
    };
    let mut lines = ctx.client.follow_build(reference, latest.build_id, 0);
    while let Some(line) = lines.next().await? {
        if ctx.out.json {
            output::json_line(&line)?;
        } else {
            output::line(&line.message)?;
        }
    }
    Ok(())
}
