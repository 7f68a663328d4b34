//! `sh`: a shell, or another program, on a terminal.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;
use skerry_api::OpenPty;
use skerry_client::Sandbox;

use super::attach::finish;
use super::exec::command;
use super::failure::Failure;
use super::keys::DetachKeys;
use super::output::note;
use super::terminal::{self, Left};
use super::{Context, Outcome, parse};

/// The keys that leave a terminal unless others are given.
pub(crate) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Open a shell on a terminal in a sandbox; ends with its exit code
#[derive(Debug, Args)]
#[command(
    visible_alias = "shell",
    after_help = "\
Examples:
  skerry sh build
  skerry sh build -- python3
  skerry sh build --attach 4      # back to what was left with Ctrl-P Ctrl-Q"
)]
pub(crate) struct ShArgs {
    /// Go back to a terminal that was left: the number or id of its exec
    #[arg(long, value_name = "EXEC", conflicts_with_all = ["cwd", "user", "env", "command"])]
    attach: Option<String>,
    /// Where it runs
    #[arg(short = 'w', long, value_name = "FOLDER")]
    cwd: Option<String>,
    /// As whom it runs
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// A variable of its environment; without a value, the one it has here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    env: Vec<(String, String)>,
    /// The keys that leave it running
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS, value_parser = DetachKeys::parse)]
    detach_keys: DetachKeys,
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    /// What to run; the user's shell unless given
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

pub(super) async fn sh(ctx: &Context, args: ShArgs) -> Outcome {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("stdin is no terminal")
            .hint("use `skerry exec -i` for input from a pipe or a file")
            .into());
    }
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    if let Some(exec) = &args.attach {
        let exec = ctx.exec(&sandbox, exec).await?;
        let left = terminal::attach(&sandbox, exec, args.detach_keys).await?;
        return Ok(leave(&sandbox, &exec.to_string(), &left, false));
    }
    let request = OpenPty {
        cmd: (!args.command.is_empty()).then(|| command(&args.command)),
        cwd: args.cwd,
        env: parse::map(&args.env),
        user: args.user,
        ..OpenPty::default()
    };
    open(&sandbox, request, args.detach_keys, false).await
}

/// Starts a program on a terminal and uses it.
pub(crate) async fn open(
    sandbox: &Sandbox,
    mut request: OpenPty,
    keys: DetachKeys,
    stats: bool,
) -> Outcome {
    let size = terminal::size();
    (request.cols, request.rows) = size.unzip();
    if let Ok(kind) = std::env::var("TERM") {
        request.env.entry("TERM".to_owned()).or_insert(kind);
    }
    let exec = sandbox.open_terminal(&request).await?;
    let left = terminal::attach(sandbox, exec.exec_id, keys).await?;
    Ok(leave(sandbox, &exec.number.to_string(), &left, stats))
}

fn leave(sandbox: &Sandbox, exec: &str, left: &Left, stats: bool) -> ExitCode {
    match left {
        Left::Ended(exit) => finish(exit, stats),
        Left::Detached => {
            note(&format!(
                "it runs on; go back with `skerry sh {} --attach {exec}`",
                sandbox.id()
            ));
            ExitCode::SUCCESS
        }
    }
}
