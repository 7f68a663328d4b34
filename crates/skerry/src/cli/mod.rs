//! The command line to a server: data on stdout, everything else on stderr.

mod attach;
mod ca;
mod completions;
mod connect;
mod context;
mod cp;
mod create;
mod egress;
mod end;
mod environment;
mod events;
mod exec;
mod execs;
mod failure;
mod fork;
mod image;
mod keys;
mod lifecycle;
mod login;
mod logs;
mod ls;
pub(crate) mod output;
mod parse;
mod progress;
mod resolve;
mod run;
mod session;
mod sh;
mod snapshot;
mod stats;
mod template;
mod terminal;
mod transfer;
mod url;
mod volume;
mod volume_copy;

use std::process::ExitCode;

use clap::Subcommand;
use skerry_client::Client;

use crate::Global;

use connect::Server;
pub(crate) use failure::{EXIT_CODES, Failure, report};
use output::Out;

/// Commands that call a server.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    Run(run::RunArgs),
    Create(create::CreateArgs),
    Ls(ls::LsArgs),
    Get(ls::GetArgs),
    Exec(exec::ExecArgs),
    Sh(sh::ShArgs),
    Cp(cp::CpArgs),
    Logs(logs::LogsArgs),
    Events(events::EventsArgs),
    Execs(execs::ExecsArgs),
    Ps(execs::PsArgs),
    Stats(stats::StatsArgs),
    Url(url::UrlArgs),
    Session(session::SessionArgs),
    Fork(fork::ForkArgs),
    Tree(fork::TreeArgs),
    Snapshot(snapshot::SnapshotArgs),
    Volume(volume::VolumeArgs),
    Rollback(snapshot::RollbackArgs),
    Timeout(lifecycle::TimeoutArgs),
    Egress(egress::EgressArgs),
    Pause(lifecycle::PauseArgs),
    Resume(lifecycle::ResumeArgs),
    Stop(end::StopArgs),
    Start(lifecycle::StartArgs),
    Rm(end::RmArgs),
    Clean(end::CleanArgs),
    Image(image::ImageArgs),
    Template(template::TemplateArgs),
    Ca(ca::CaArgs),
    #[command(subcommand)]
    Env(environment::EnvCommand),
    Completions(completions::CompletionsArgs),
}

/// What every command has: a server, and where to write.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    client: Client,
    out: Out,
}

/// How a command that worked ends: `SUCCESS`, or the code of what it ran.
type Outcome = anyhow::Result<ExitCode>;

pub(crate) fn main(command: CliCommand, global: &Global) -> ExitCode {
    let own_failure = command.own_failure();
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let done = runtime.block_on(run(command, global));
            // A read of stdin that nobody waits for any more must not hold up the end.
            runtime.shutdown_background();
            done
        });
    done.unwrap_or_else(|error| failure::report_as(&error, own_failure))
}

impl CliCommand {
    /// The code of a failure of ours where the codes of failures belong to what is run.
    fn own_failure(&self) -> Option<u8> {
        let runs_a_command = match self {
            Self::Run(_) | Self::Exec(_) | Self::Sh(_) => true,
            Self::Session(args) => args.runs_a_command(),
            _ => false,
        };
        runs_a_command.then_some(failure::OWN)
    }
}

async fn run(command: CliCommand, global: &Global) -> Outcome {
    let ctx = || -> anyhow::Result<Context> {
        Ok(Context {
            client: Server::find(global)?.client()?,
            out: Out::new(global.json),
        })
    };
    match command {
        CliCommand::Run(args) => run::run(&ctx()?, args).await,
        CliCommand::Create(args) => create::create(&ctx()?, args).await,
        CliCommand::Ls(args) => ls::ls(&ctx()?, args).await,
        CliCommand::Get(args) => ls::get(&ctx()?, args).await,
        CliCommand::Exec(args) => exec::exec(&ctx()?, args).await,
        CliCommand::Sh(args) => sh::sh(&ctx()?, args).await,
        CliCommand::Cp(args) => cp::cp(&ctx()?, args).await,
        CliCommand::Logs(args) => logs::logs(&ctx()?, args).await,
        CliCommand::Events(args) => events::events(&ctx()?, args).await,
        CliCommand::Execs(args) => execs::execs(&ctx()?, args).await,
        CliCommand::Ps(args) => execs::ps(&ctx()?, args).await,
        CliCommand::Stats(args) => stats::stats(&ctx()?, args).await,
        CliCommand::Url(args) => url::url(&ctx()?, args).await,
        CliCommand::Session(args) => session::session(&ctx()?, args).await,
        CliCommand::Fork(args) => fork::fork(&ctx()?, args).await,
        CliCommand::Tree(args) => fork::tree(&ctx()?, args).await,
        CliCommand::Snapshot(args) => snapshot::snapshot(&ctx()?, args).await,
        CliCommand::Volume(args) => volume::volume(&ctx()?, args).await,
        CliCommand::Rollback(args) => snapshot::rollback(&ctx()?, args).await,
        CliCommand::Timeout(args) => lifecycle::timeout(&ctx()?, args).await,
        CliCommand::Egress(args) => egress::egress(&ctx()?, args).await,
        CliCommand::Pause(args) => lifecycle::pause(&ctx()?, args).await,
        CliCommand::Resume(args) => lifecycle::resume(&ctx()?, args).await,
        CliCommand::Start(args) => lifecycle::start(&ctx()?, args).await,
        CliCommand::Stop(args) => end::stop(&ctx()?, args).await,
        CliCommand::Rm(args) => end::rm(&ctx()?, args).await,
        CliCommand::Clean(args) => end::clean(&ctx()?, args).await,
        CliCommand::Image(args) => image::image(&ctx()?, args).await,
        CliCommand::Template(args) => template::template(&ctx()?, args).await,
        CliCommand::Ca(args) => ca::ca(global, &args).await,
        CliCommand::Env(command) => environment::env(global, &command),
        CliCommand::Completions(args) => completions::completions(&args),
    }
}
