//! Terminals: an exec with a tty, and a WebSocket to it that may come and go.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::{FutureExt, StreamExt};
use skerry_api::{Command, Exec, OpenPty, TerminalSize};
use skerry_control::{Attempt, Caller, Need, Scope};
use skerry_proto::node::{StartExec, TtySize};
use skerry_types::{Error, ErrorCode, ExecId, Result, SandboxId, limits};
use tokio::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{After, Json, Path};
use crate::once::Once;
use crate::ws::{Attached, Form, Upgrade};
use crate::{App, check, convert};

const SIGHUP: i32 = 1;
const SIGKILL: i32 = 9;
/// The user's own shell, or whatever shell there is.
const SHELL: &str = r#"exec "${SHELL:-/bin/sh}" -l"#;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(open_pty))
        .routes(routes!(close_pty))
        .routes(routes!(attach_pty))
        .routes(routes!(resize_pty))
}

/// Start a program on a terminal. Nobody needs to be attached to it.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/pty", tag = "terminals", params(("id" = String, Path)),
    request_body = OpenPty, responses((status = 201, body = Exec))
)]
async fn open_pty(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    once: Once,
    body: Option<Json<OpenPty>>,
) -> Answer<Response> {
    caller.require(Scope::SessionCreate)?;
    let request = body.unwrap_or_default().0;
    let mut start = start(request.clone())?;
    let work = {
        let (app, caller) = (app.clone(), caller.clone());
        move |attempt: Attempt| {
            async move {
                let node = app.node_for(&caller, Scope::SessionCreate, id, attempt);
                // The node does not start the same twice.
                start.id = ExecId::from_uuid(attempt.id);
                let record = node.await?.start_exec(id, start).await?;
                Ok((StatusCode::CREATED, convert::exec(record)))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

fn start(request: OpenPty) -> Result<StartExec> {
    let command = request
        .cmd
        .unwrap_or_else(|| Command::Shell(SHELL.to_owned()));
    let mut env = request.env;
    env.entry("TERM".into())
        .or_insert_with(|| "xterm-256color".into());
    let start = StartExec {
        id: ExecId::new(),
        command: convert::command(command),
        cwd: request.cwd,
        env,
        user: request.user,
        stdin: true,
        tty: Some(size(
            request.cols.unwrap_or(80),
            request.rows.unwrap_or(24),
        )?),
        // A terminal ends with its program, its sandbox, or when it is closed.
        timeout: None,
        session: None,
        tag: None,
    };
    check::start(&start)?;
    Ok(start)
}

fn size(cols: u16, rows: u16) -> Result<TtySize> {
    if cols == 0 || rows == 0 {
        return Err(Error::validation("cols and rows: must be at least 1"));
    }
    Ok(TtySize { cols, rows })
}

/// Attach to a terminal over a WebSocket.
///
/// Binary messages are bytes, both ways. Each one from the terminal is followed by `{"t":"position","seq":n}`: attach again with `after=n` to
/// miss nothing. Text messages from the client are as for an exec; the end comes as an `exit` event.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/pty/{exec_id}/ws", tag = "terminals",
    params(
        ("id" = String, Path), ("exec_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The last position that the client has."),
    ),
    responses((status = 101, description = "The connection becomes a WebSocket."))
)]
async fn attach_pty(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((sandbox, exec)): Path<(SandboxId, ExecId)>,
    After(after): After,
    upgrade: Upgrade,
) -> Answer<Response> {
    let node = app
        .node(&caller, Scope::SessionRead, sandbox, Need::Journal)
        .await?;
    if !node.get_exec(sandbox, exec).await?.tty {
        return Err(no_terminal(exec).into());
    }
    let events = node.exec_events(sandbox, exec, after, true).await?;
    let attached = Attached {
        node,
        sandbox,
        exec,
        events,
        form: Form::Terminal,
        closing: app.draining.clone(),
        may_write: caller.require(Scope::SessionWrite).is_ok(),
    };
    Ok(attached.serve(upgrade))
}

fn no_terminal(exec: ExecId) -> Error {
    Error::conflict(format!("{exec} has no terminal"))
}

/// Give a terminal a new size.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/pty/{exec_id}/resize", tag = "terminals",
    params(("id" = String, Path), ("exec_id" = String, Path)),
    request_body = TerminalSize, responses((status = 204))
)]
async fn resize_pty(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, exec)): Path<(SandboxId, ExecId)>,
    Json(TerminalSize { cols, rows }): Json<TerminalSize>,
) -> Answer<StatusCode> {
    let node = app
        .node(&caller, Scope::SessionWrite, id, Need::Use)
        .await?;
    node.exec_resize(id, exec, size(cols, rows)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hang up a terminal: its program is told, and killed if it does not go. One that has ended is fine.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}/pty/{exec_id}", tag = "terminals",
    params(("id" = String, Path), ("exec_id" = String, Path)),
    responses((status = 200, body = Exec))
)]
async fn close_pty(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, exec)): Path<(SandboxId, ExecId)>,
) -> Answer<Json<Exec>> {
    let node = app
        .node(&caller, Scope::SessionWrite, id, Need::Journal)
        .await?;
    let record = node.get_exec(id, exec).await?;
    if !record.tty {
        return Err(no_terminal(exec).into());
    }
    if record.end.is_some() {
        return Ok(Json(convert::exec(record)));
    }
    // Only its end is of interest, and that is the last event.
    let mut rest = node.exec_events(id, exec, 0, true).await?;
    let mut ended = std::pin::pin!(async { while rest.next().await.is_some() {} });
    for signal in [SIGHUP, SIGKILL] {
        match node.exec_signal(id, exec, signal).await {
            // It went by itself in between.
            Err(error) if error.code != ErrorCode::Conflict => return Err(error.into()),
            _ => {}
        }
        let grace = Duration::from_millis(limits::KILL_GRACE_MS);
        if tokio::time::timeout(grace, ended.as_mut()).await.is_ok() {
            break;
        }
    }
    Ok(Json(convert::exec(node.get_exec(id, exec).await?)))
}
