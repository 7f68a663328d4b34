//! `session`: shells that keep their state between commands.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use skerry_api::{OpenSession, RunInSession};
use skerry_client::Sandbox;
use skerry_types::SessionId;

use super::attach::{attach, finish};
use super::failure::Failure;
use super::output::{self, age, cell, maybe};
use super::{Context, Outcome, parse};

/// Use shells that keep their state between commands
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  id=$(skerry session open build)
  skerry session exec build $id 'cd /src && export CI=1'
  skerry session exec build $id 'pwd; echo $CI'
  skerry session rm build $id"
)]
pub(crate) struct SessionArgs {
    #[command(subcommand)]
    what: SessionCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// Open a session and print its id
    #[command(visible_alias = "create")]
    Open {
        /// The shell's path; bash where there is one, else sh
        #[arg(long, value_name = "PATH")]
        shell: Option<String>,
        /// Where it starts
        #[arg(short = 'w', long, value_name = "FOLDER")]
        cwd: Option<String>,
        /// As whom it runs
        #[arg(short, long, value_name = "USER")]
        user: Option<String>,
        /// A variable of its environment; without a value, the one it has here
        #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse::variable)]
        env: Vec<(String, String)>,
        /// The sandbox: its name, its id, or the first letters of its id
        sandbox: String,
    },
    /// List the sessions of a sandbox
    #[command(visible_alias = "list")]
    Ls {
        /// The sandbox: its name, its id, or the first letters of its id
        sandbox: String,
    },
    /// Run a script in a session; ends with its exit code
    Exec {
        /// Give it what we get on stdin
        #[arg(short, long)]
        interactive: bool,
        /// It is ended after this time: 90s, 15m
        #[arg(long, value_name = "TIME", value_parser = parse::seconds)]
        timeout: Option<u64>,
        /// The sandbox: its name, its id, or the first letters of its id
        sandbox: String,
        /// The session: its id, or the first letters of it
        session: String,
        /// The script
        script: String,
    },
    /// End a session
    Rm {
        /// The sandbox: its name, its id, or the first letters of its id
        sandbox: String,
        /// The session: its id, or the first letters of it
        session: String,
    },
}

impl SessionArgs {
    pub(super) fn runs_a_command(&self) -> bool {
        matches!(self.what, SessionCommand::Exec { .. })
    }
}

pub(super) async fn session(ctx: &Context, args: SessionArgs) -> Outcome {
    match args.what {
        SessionCommand::Open {
            shell,
            cwd,
            user,
            env,
            sandbox,
        } => {
            let env = parse::map(&env);
            let request = OpenSession {
                shell,
                env,
                cwd,
                user,
            };
            let opened = ctx.sandbox(&sandbox).await?.open_session(&request).await?;
            if ctx.out.json {
                output::json(&opened)?;
            } else {
                output::line(&opened.session_id.to_string())?;
            }
        }
        SessionCommand::Ls { sandbox } => ls(ctx, &sandbox).await?,
        SessionCommand::Exec {
            interactive,
            timeout,
            sandbox,
            session,
            script,
        } => {
            let sandbox = ctx.sandbox(&sandbox).await?;
            let session = resolve(&sandbox, &session).await?;
            let request = RunInSession {
                cmd: script,
                timeout_seconds: timeout,
                wait: Some(false),
            };
            let started = sandbox.start_in_session(session, &request).await?;
            let exit = attach(ctx, &sandbox, started.exec_id, interactive).await?;
            return Ok(finish(&exit, false));
        }
        SessionCommand::Rm { sandbox, session } => {
            let sandbox = ctx.sandbox(&sandbox).await?;
            let session = resolve(&sandbox, &session).await?;
            let closed = sandbox.close_session(session).await?;
            if ctx.out.json {
                output::json(&closed)?;
            } else {
                output::line(&closed.session_id.to_string())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ls(ctx: &Context, sandbox: &str) -> anyhow::Result<()> {
    let list = ctx.sandbox(sandbox).await?.sessions().await?;
    if ctx.out.json {
        return output::json(&list.sessions);
    }
    let rows = list.sessions.iter().map(|session| {
        vec![
            cell(session.session_id.to_string()),
            cell(&session.status),
            maybe(session.shell.as_deref()),
            cell(age(session.created_at)),
        ]
    });
    ctx.out
        .table(&["ID", "STATUS", "SHELL", "AGE"], rows.collect())
}

async fn resolve(sandbox: &Sandbox, text: &str) -> anyhow::Result<SessionId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let list = sandbox.sessions().await?;
    let ids = list.sessions.iter().map(|session| session.session_id);
    let mut meant = ids.filter(|id| !text.is_empty() && id.to_string().starts_with(text));
    match (meant.next(), meant.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("`{text}` means several sessions")).into())
        }
        (None, _) => Err(Failure::not_found(format!("there is no session `{text}`"))
            .hint(format!(
                "`skerry session ls {}` shows which there are",
                sandbox.id()
            ))
            .into()),
    }
}
