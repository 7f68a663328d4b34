//! `create`: a new sandbox.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use skerry_api::{CreateSandbox, OnTimeout, Sandbox as Record, VolumeMount};
use skerry_types::SandboxState;

use super::egress::Rules;
use super::output::{self, note};
use super::{Context, Outcome, parse};

/// What a new sandbox shall be.
#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// What it starts from: `host`, `base`, or an image of a registry
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A named size: small, medium or large
    #[arg(long, value_name = "SIZE")]
    profile: Option<String>,
    /// A name for it
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A variable of its environment; without a value, the one it has here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    env: Vec<(String, String)>,
    /// Processors' worth of time
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory: 512M, 2G
    #[arg(long, value_name = "SIZE", value_parser = parse::mebibytes)]
    memory: Option<u32>,
    /// Space for what it writes: 512M, 2G
    #[arg(long, value_name = "SIZE", value_parser = parse::mebibytes)]
    disk: Option<u32>,
    /// Processes and threads at most
    #[arg(long, value_name = "N")]
    pids: Option<u32>,
    /// It ends at this age: 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    ttl: Option<u64>,
    /// It ends when nothing used it for this long; 0: never
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    idle: Option<u64>,
    /// What happens to it then
    #[arg(long, value_name = "WHAT")]
    on_timeout: Option<WhatThen>,
    /// What happens when nothing used it for too long, if that is something else
    #[arg(long, value_name = "WHAT")]
    on_idle: Option<WhatThen>,
    /// Paused, it wakes up when it is used
    #[arg(long)]
    auto_resume: bool,
    /// Paused, it stays until it is resumed or deleted, whatever its age limit
    #[arg(long)]
    keep_paused: bool,
    /// What listens in it is reached without a key
    #[arg(long)]
    public_ports: bool,
    /// A port of it to publish on the host: whoever reaches that needs no key
    #[arg(short = 'p', long = "publish", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// A volume that it has, and where
    #[arg(long, value_name = "NAME:/PATH", value_parser = parse::volume)]
    volume: Vec<VolumeMount>,
    /// Its network: none, or nat for a way out
    #[arg(long, value_name = "KIND")]
    network: Option<String>,
    #[command(flatten)]
    egress: Rules,
    /// What its programs may: restricted, or root for root and sudo inside it
    #[arg(long, value_name = "LEVEL")]
    privilege: Option<String>,
    /// The driver to use
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
    /// The least isolation to accept: namespace, application_kernel or vm
    #[arg(long, value_name = "LEVEL")]
    isolation: Option<String>,
    /// A note on it, to find it by
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::pair)]
    label: Vec<(String, String)>,
    /// The project it belongs to
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Where it runs; the server's own region unless given
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// It may wait this long for a place where none is free: 90s, 15m
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    queue: Option<u64>,
}

/// What happens to a sandbox at its end.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WhatThen {
    Stop,
    Pause,
    Delete,
}

impl From<WhatThen> for OnTimeout {
    fn from(what: WhatThen) -> Self {
        match what {
            WhatThen::Stop => Self::Stop,
            WhatThen::Pause => Self::Pause,
            WhatThen::Delete => Self::Delete,
        }
    }
}

impl Spec {
    pub(crate) fn request(self) -> CreateSandbox {
        CreateSandbox {
            image: self.image,
            profile: self.profile,
            vcpus: self.cpus,
            memory_mb: self.memory,
            disk_mb: self.disk,
            pids: self.pids,
            env: parse::map(&self.env),
            ttl_seconds: self.ttl,
            idle_seconds: self.idle,
            on_timeout: self.on_timeout.map(OnTimeout::from),
            on_idle: self.on_idle.map(OnTimeout::from),
            auto_resume: self.auto_resume,
            keep_paused: self.keep_paused,
            public_ports: self.public_ports,
            ports: self.ports,
            volumes: self.volume,
            metadata: parse::map(&self.label),
            name: self.name,
            network: self.network,
            egress: self.egress.request(),
            privilege: self.privilege,
            driver: self.driver,
            isolation: self.isolation,
            project: self.project,
            region: self.region,
            queue_timeout_seconds: self.queue,
            ..CreateSandbox::default()
        }
    }
}

/// Make a sandbox and print its id
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry create
  skerry create --name build --image base --memory 2G --ttl 2h
  skerry create --idle 10m --on-idle pause --auto-resume
  skerry create --allow example.org --allow '*.example.org'
  id=$(skerry create -e CI=1 --network none)")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    spec: Spec,
}

pub(super) async fn create(ctx: &Context, args: CreateArgs) -> Outcome {
    let made = ctx.client.create(&args.spec.request()).await?;
    if ctx.out.json {
        output::json(&made)?;
    } else {
        output::line(&made.sandbox_id.to_string())?;
        if let Some(remark) = remark(&made) {
            note(&remark);
        }
        say_published(&made);
    }
    Ok(match made.status {
        SandboxState::Failed => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Says where its published ports are reached.
pub(crate) fn say_published(made: &Record) {
    for one in &made.published {
        note(&format!("port {} is at {}", one.port, one.url));
    }
}

/// What is worth saying of a sandbox that does not run yet.
pub(crate) fn remark(made: &Record) -> Option<String> {
    match made.status {
        SandboxState::Running => None,
        SandboxState::Queued => {
            let place = made.queue_position.map(|n| format!(" at place {n}"));
            Some(format!("it is queued{}", place.unwrap_or_default()))
        }
        SandboxState::Failed => {
            let why = made
                .failure_message
                .as_deref()
                .unwrap_or("nobody knows why");
            Some(format!("error: the sandbox did not start: {why}"))
        }
        other => Some(format!("it is {other}")),
    }
}
