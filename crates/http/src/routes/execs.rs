//! Running commands and looking at them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use skerry_api::{Command, Exec, ExecPage, ExecResult, RunExec};
use skerry_control::{Attempt, Caller, Need, Scope};
use skerry_proto::node::{ExecFilter, Node, StartExec};
use skerry_types::{Error, ExecId, ExecStatus, Result, SandboxId, limits};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::collect::collect;
use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::once::Once;
use crate::{App, check, convert};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(run_exec))
        .routes(routes!(get_exec))
        .routes(routes!(list_execs))
}

/// An exec that ended, or one that was only started.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Ran {
    Ended(Box<ExecResult>),
    Started(Box<Exec>),
}

/// Run a command.
///
/// With `wait` (the default) 200 when it ended, with at most 1 MiB of each stream; otherwise 202 at once. It runs to its end also when the
/// caller goes away. A command that cannot be found is a normal answer: `exit_code` 127, `end.kind` `failed_to_start`.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/exec", tag = "execs", params(("id" = String, Path)),
    request_body = RunExec,
    responses((status = 200, body = ExecResult), (status = 202, body = Exec))
)]
async fn run_exec(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    once: Once,
    Json(request): Json<RunExec>,
) -> Answer<Response> {
    caller.require(Scope::ExecCreate)?;
    let wait = request.wait.unwrap_or(true);
    let timeout = exec_timeout(&app, &caller, request.timeout_seconds, wait).await?;
    let start = start(request.clone(), timeout)?;
    let work = run(&app, &caller, id, start, wait);
    once.run(&app, &caller, &request, work).await
}

/// Starts a command and, if asked, waits for its end. One that an earlier attempt started is not started again: the node knows its id.
pub(super) fn run(
    app: &App,
    caller: &Caller,
    sandbox: SandboxId,
    start: StartExec,
    wait: bool,
) -> impl FnOnce(Attempt) -> BoxFuture<'static, Answer<(StatusCode, Ran)>> {
    let (app, caller) = (app.clone(), caller.clone());
    move |attempt| {
        async move {
            let node = app.node_for(&caller, Scope::ExecCreate, sandbox, attempt);
            run_once(node.await?, sandbox, attempt, start, wait).await
        }
        .boxed()
    }
}

async fn run_once(
    node: Arc<dyn Node>,
    sandbox: SandboxId,
    attempt: Attempt,
    mut start: StartExec,
    wait: bool,
) -> Answer<(StatusCode, Ran)> {
    let exec = ExecId::from_uuid(attempt.id);
    start.id = exec;
    let record = node.start_exec(sandbox, start).await?;
    if !wait {
        let started = Ran::Started(Box::new(convert::exec(record)));
        return Ok((StatusCode::ACCEPTED, started));
    }
    let events = node.exec_events(sandbox, exec, 0, true).await?;
    let ended = Ran::Ended(Box::new(collect(exec, events).await?));
    Ok((StatusCode::OK, ended))
}

fn start(request: RunExec, timeout: Duration) -> Result<StartExec> {
    if request.stdin && request.wait != Some(false) {
        return Err(Error::validation(
            "stdin: nobody could write to it with wait: true",
        ));
    }
    let start = StartExec {
        id: ExecId::new(),
        command: convert::command(with_args(request.cmd, request.args)?),
        cwd: request.cwd,
        env: request.env,
        user: request.user,
        stdin: request.stdin,
        tty: None,
        timeout: Some(timeout),
        session: None,
        tag: request.tag,
    };
    check::start(&start)?;
    Ok(start)
}

fn with_args(cmd: Command, args: Option<Vec<String>>) -> Result<Command> {
    match (cmd, args) {
        (cmd, None) => Ok(cmd),
        (Command::Shell(program), Some(args)) => Ok(Command::Argv(
            std::iter::once(program).chain(args).collect(),
        )),
        (Command::Argv(_), Some(_)) => {
            Err(Error::validation("args: cmd is a list already").with_hint("put them into cmd"))
        }
    }
}

/// The time limit of an exec: what can be waited for, or what the org may have.
pub(super) async fn exec_timeout(
    app: &App,
    caller: &Caller,
    asked: Option<u64>,
    wait: bool,
) -> Result<Duration> {
    let seconds = asked.unwrap_or(limits::DEFAULT_EXEC_TIMEOUT_SECONDS);
    let checked = if wait {
        check::seconds("timeout_seconds", seconds, limits::MAX_SYNC_EXEC_SECONDS)
            .map_err(|error| error.with_hint("use wait: false for more"))
    } else {
        let quotas = app.control.quotas(caller).await?;
        check::seconds("timeout_seconds", seconds, quotas.max_exec_seconds.into())
    };
    checked.map(Duration::from_secs)
}

/// Look at an exec.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec/{exec_id}", tag = "execs",
    params(("id" = String, Path), ("exec_id" = String, Path)),
    responses((status = 200, body = Exec))
)]
async fn get_exec(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, exec)): Path<(SandboxId, ExecId)>,
) -> Answer<Json<Exec>> {
    let node = app
        .node(&caller, Scope::ExecRead, id, Need::Journal)
        .await?;
    Ok(Json(convert::exec(node.get_exec(id, exec).await?)))
}

/// Which execs to list.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Only with this status.
    status: Option<String>,
    /// Only of this session.
    session_id: Option<String>,
    /// Only with this tag.
    tag: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// At most this many, 1 to 200; 50 unless given.
    limit: Option<u32>,
}

impl Filter {
    fn filter(&self) -> Result<ExecFilter> {
        let status = |name: &String| {
            ExecStatus::from_name(name)
                .ok_or_else(|| Error::validation(format!("status: `{name}` is not a status")))
        };
        let session = |id: &String| {
            id.parse().map_err(|error: skerry_types::ParseIdError| {
                Error::validation(format!("session_id: {error}"))
            })
        };
        Ok(ExecFilter {
            status: self.status.as_ref().map(status).transpose()?,
            session: self.session_id.as_ref().map(session).transpose()?,
            tag: self.tag.clone(),
            after_number: check::number_cursor(self.cursor.as_deref())?,
            // One more than asked tells whether there is a next page.
            limit: check::limit(self.limit)? as usize + 1,
        })
    }
}

/// List the execs of a sandbox, by number; also after it ended.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/execs", tag = "execs",
    params(("id" = String, Path), Filter), responses((status = 200, body = ExecPage))
)]
async fn list_execs(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(filter): Query<Filter>,
) -> Answer<Json<ExecPage>> {
    let node = app
        .node(&caller, Scope::ExecRead, id, Need::Journal)
        .await?;
    let filter = filter.filter()?;
    let limit = filter.limit - 1;
    let mut records = node.list_execs(id, filter).await?;
    let more = records.len() > limit;
    records.truncate(limit);
    let last = records.last().map(|record| record.number.to_string());
    Ok(Json(ExecPage {
        execs: records.into_iter().map(convert::exec).collect(),
        next_cursor: last.filter(|_| more),
    }))
}
