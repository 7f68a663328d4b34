//! The command line to a server.

use std::process::ExitCode;

use clap::Subcommand;

use crate::Global;

/// Commands that call a server.
#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// (soon)
    Ls,
}

pub(crate) fn main(_command: CliCommand, _global: &Global) -> ExitCode {
    ExitCode::SUCCESS
}

pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}
