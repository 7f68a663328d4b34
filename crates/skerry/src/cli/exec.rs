//! `exec`: a command in a sandbox.

use std::process::ExitCode;

use clap::Args;
use skerry_api::{Command, OpenPty, RunExec};

use super::attach::{attach, finish};
use super::failure::Failure;
use super::keys::DetachKeys;
use super::sh::{self, DETACH_KEYS};
use super::{Context, Outcome, output, parse};

/// How a command is run.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Where it runs
    #[arg(short = 'w', long, value_name = "FOLDER")]
    cwd: Option<String>,
    /// As whom it runs
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// It is ended after this time: 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
    timeout: Option<u64>,
    /// Say at the end how it ended, how long it took and how much memory
    #[arg(long)]
    pub(crate) stats: bool,
    /// The command. One argument with a space in it is a script for the shell
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

impl How {
    pub(crate) fn request(&self, env: &[(String, String)], stdin: bool) -> RunExec {
        RunExec {
            cmd: command(&self.command),
            args: None,
            cwd: self.cwd.clone(),
            env: parse::map(env),
            user: self.user.clone(),
            stdin,
            timeout_seconds: self.timeout,
            wait: Some(false),
            tag: None,
        }
    }

    fn terminal(&self, env: &[(String, String)]) -> OpenPty {
        OpenPty {
            cmd: Some(command(&self.command)),
            cwd: self.cwd.clone(),
            env: parse::map(env),
            user: self.user.clone(),
            ..OpenPty::default()
        }
    }
}

/// `ls -l` is a program and an argument, `'ls | wc'` is a script.
pub(crate) fn command(words: &[String]) -> Command {
    match words {
        [script] if script.contains(char::is_whitespace) => Command::Shell(script.clone()),
        words => Command::Argv(words.to_vec()),
    }
}

/// Run a command in a sandbox; ends with its exit code
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry exec build -- cargo test
  skerry exec build 'cd /src && make | tail'
  tar c . | skerry exec -i build -- tar x -C /tmp
  skerry exec -d build -- python3 -m http.server

Ctrl-C is passed on; a second one kills the command. It runs on when the connection breaks.")]
pub(crate) struct ExecArgs {
    /// Give it what we get on stdin
    #[arg(short, long)]
    interactive: bool,
    /// Run it on a terminal, which Ctrl-P Ctrl-Q leaves
    #[arg(short, long, conflicts_with_all = ["detach", "timeout"])]
    tty: bool,
    /// Only start it and print its id
    #[arg(short, long, conflicts_with = "interactive")]
    detach: bool,
    /// A variable of its environment; without a value, the one it has here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    env: Vec<(String, String)>,
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    #[command(flatten)]
    how: How,
}

pub(super) async fn exec(ctx: &Context, args: ExecArgs) -> Outcome {
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    if args.tty {
        let request = args.how.terminal(&args.env);
        let keys = DetachKeys::parse(DETACH_KEYS).map_err(Failure::usage)?;
        return sh::open(&sandbox, request, keys, args.how.stats).await;
    }
    let request = args.how.request(&args.env, args.interactive);
    let started = sandbox.start(&request).await?;
    if args.detach {
        if ctx.out.json {
            output::json(&started)?;
        } else {
            output::line(&started.exec_id.to_string())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let exit = attach(ctx, &sandbox, started.exec_id, args.interactive).await?;
    Ok(finish(&exit, args.how.stats))
}
