//! `completions`: for the shell that someone types in.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Outcome;

/// Print a script that completes commands in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(skerry completions bash)
  skerry completions fish > ~/.config/fish/completions/skerry.fish")]
pub(crate) struct CompletionsArgs {
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::Args::command(),
        "skerry",
        &mut script,
    );
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
