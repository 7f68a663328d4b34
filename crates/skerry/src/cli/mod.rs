//! The command line to a server: data on stdout, everything else on stderr.

mod attach;
mod connect;
mod create;
mod end;
mod exec;
mod failure;
mod fork;
mod ls;
mod output;
mod parse;
mod resolve;
mod run;

use std::process::ExitCode;

use clap::Subcommand;
use skerry_client::Client;

use crate::Global;

pub(crate) use failure::{EXIT_CODES, report};
use output::Out;

/// Commands that call a server.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    Run(run::RunArgs),
    Create(create::CreateArgs),
    Ls(ls::LsArgs),
    Get(ls::GetArgs),
    Exec(exec::ExecArgs),
    Fork(fork::ForkArgs),
    Tree(fork::TreeArgs),
    Stop(end::StopArgs),
    Rm(end::RmArgs),
    Clean(end::CleanArgs),
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
        matches!(self, Self::Run(_) | Self::Exec(_)).then_some(failure::OWN)
    }
}

async fn run(command: CliCommand, global: &Global) -> Outcome {
    let ctx = Context {
        client: connect::client(global)?,
        out: Out::new(global.json),
    };
    match command {
        CliCommand::Run(args) => run::run(&ctx, args).await,
        CliCommand::Create(args) => create::create(&ctx, args).await,
        CliCommand::Ls(args) => ls::ls(&ctx, args).await,
        CliCommand::Get(args) => ls::get(&ctx, args).await,
        CliCommand::Exec(args) => exec::exec(&ctx, args).await,
        CliCommand::Fork(args) => fork::fork(&ctx, args).await,
        CliCommand::Tree(args) => fork::tree(&ctx, args).await,
        CliCommand::Stop(args) => end::stop(&ctx, args).await,
        CliCommand::Rm(args) => end::rm(&ctx, args).await,
        CliCommand::Clean(args) => end::clean(&ctx, args).await,
    }
}
