//! `skerry`: the server in its roles, and the command line to it.

mod cli;
mod data_dir;
mod doctor;
mod env;
mod internal;
mod log;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::internal::Internal;
use crate::up::{DownArgs, UpArgs};

/// Linux computers for software agents: isolated, started in milliseconds, forked, recorded.
#[derive(Debug, Parser)]
#[command(
    name = "skerry",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = cli::EXIT_CODES
)]
struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Where the server is; the one that runs on this machine unless said
    #[arg(long, env = env::URL, global = true, help_heading = "Server", value_name = "URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// The key to call it with; the one that the server on this machine made unless said
    #[arg(long, env = env::API_KEY, global = true, help_heading = "Server", value_name = "KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// The folder of everything that a server keeps
    #[arg(long, env = env::DATA_DIR, global = true, help_heading = "Server", value_name = "FOLDER", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true, help_heading = "Server")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<UpArgs>),
    Down(DownArgs),
    /// Say what this machine can do, and what would help it do more
    Doctor,
    #[command(flatten)]
    Cli(Box<cli::CliCommand>),
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

fn main() -> ExitCode {
    let Args { global, command } = Args::try_parse()
        .unwrap_or_else(|error| env::blame(error, |name| std::env::var(name).ok()).exit());
    let done = match command {
        Command::Up(args) => up::main(&global, *args),
        Command::Down(args) => up::down(&global, &args),
        Command::Doctor => doctor::main(&global),
        Command::Cli(command) => return cli::main(*command, &global),
        Command::Internal(internal) => return internal::main(internal),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::report(&error),
    }
}
