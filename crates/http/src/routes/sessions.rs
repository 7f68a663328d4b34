//! Stateful shells.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::BytesMut;
use futures::FutureExt;
use skerry_api as api;
use skerry_api::{OpenSession, RunInSession, Session, SessionInput, SessionList};
use skerry_control::{Attempt, Caller, Need, Scope};
use skerry_proto::node::{self, Node, SessionEvent, SessionRecord, StartExec};
use skerry_types::{Error, ExecId, Result, SandboxId, SessionId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::execs;
use crate::error::Answer;
use crate::extract::{After, Json, Path};
use crate::once::Once;
use crate::{App, check, convert, json, sse, ws};

/// The most an exec in a session may run.
const MAX_SECONDS: u64 = 3600;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(open_session, list_sessions))
        .routes(routes!(close_session))
        .routes(routes!(run_in_session))
        .routes(routes!(write_session_input))
        .routes(routes!(stream_session))
}

/// Open a session. A sandbox has at most five.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/sessions", tag = "sessions", params(("id" = String, Path)),
    request_body = OpenSession, responses((status = 201, body = Session))
)]
async fn open_session(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    once: Once,
    body: Option<Json<OpenSession>>,
) -> Answer<Response> {
    caller.require(Scope::SessionCreate)?;
    let request = body.unwrap_or_default().0;
    check::env(&request.env)?;
    check::cwd(request.cwd.as_deref())?;
    request.shell.as_deref().map(check::path).transpose()?;
    let work = {
        let (app, caller, request) = (app.clone(), caller.clone(), request.clone());
        move |attempt: Attempt| {
            async move {
                let node = app.node_for(&caller, Scope::SessionCreate, id, attempt);
                let node = node.await?;
                let session = SessionId::from_uuid(attempt.id);
                let earlier = attempt.earlier(find(&*node, id, session));
                let opened = match earlier.await? {
                    Some(opened) => opened,
                    None => node.open_session(id, open(session, request)).await?,
                };
                Ok((StatusCode::CREATED, convert::session(opened)))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

fn open(id: SessionId, request: OpenSession) -> node::OpenSession {
    node::OpenSession {
        id,
        shell: request.shell,
        env: request.env,
        cwd: request.cwd,
        user: request.user,
    }
}

async fn find(node: &dyn Node, sandbox: SandboxId, session: SessionId) -> Result<SessionRecord> {
    let sessions = node.list_sessions(sandbox).await?;
    let mut found = sessions.into_iter().filter(|s| s.id == session);
    found.next().ok_or_else(|| Error::not_found(session))
}

/// List the sessions of a sandbox, the ended ones too.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/sessions", tag = "sessions", params(("id" = String, Path)),
    responses((status = 200, body = SessionList))
)]
async fn list_sessions(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
) -> Answer<Json<SessionList>> {
    let node = app
        .node(&caller, Scope::SessionRead, id, Need::Journal)
        .await?;
    let found = node.list_sessions(id).await?;
    let sessions = found.into_iter().map(convert::session).collect();
    Ok(Json(SessionList { sessions }))
}

/// End a session with all it runs.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}/sessions/{session_id}", tag = "sessions",
    params(("id" = String, Path), ("session_id" = String, Path)),
    responses((status = 200, body = Session))
)]
async fn close_session(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, session)): Path<(SandboxId, SessionId)>,
) -> Answer<Json<Session>> {
    let node = app
        .node(&caller, Scope::SessionWrite, id, Need::Use)
        .await?;
    let closed = node.close_session(id, session).await?;
    Ok(Json(convert::session(closed)))
}

/// Run a script in a session; a second one meanwhile is a conflict.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/sessions/{session_id}/exec", tag = "sessions",
    params(("id" = String, Path), ("session_id" = String, Path)), request_body = RunInSession,
    responses((status = 200, body = api::ExecResult), (status = 202, body = api::Exec))
)]
async fn run_in_session(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, session)): Path<(SandboxId, SessionId)>,
    once: Once,
    Json(request): Json<RunInSession>,
) -> Answer<Response> {
    caller.require(Scope::ExecCreate)?;
    let wait = request.wait.unwrap_or(true);
    let timeout = execs::exec_timeout(&app, &caller, request.timeout_seconds, wait).await?;
    check::seconds("timeout_seconds", timeout.as_secs(), MAX_SECONDS)?;
    let command = api::Command::Shell(request.cmd.clone());
    let start = StartExec {
        id: ExecId::new(),
        command: convert::command(command),
        cwd: None,
        env: node::Map::new(),
        user: None,
        stdin: true,
        tty: None,
        timeout: Some(timeout),
        session: Some(session),
        tag: None,
    };
    check::start(&start)?;
    let work = execs::run(&app, &caller, id, start, wait);
    once.run(&app, &caller, &request, work).await
}

/// Give input to what runs in a session.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/sessions/{session_id}/input", tag = "sessions",
    params(("id" = String, Path), ("session_id" = String, Path)),
    request_body = SessionInput, responses((status = 204))
)]
async fn write_session_input(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, session)): Path<(SandboxId, SessionId)>,
    Json(input): Json<SessionInput>,
) -> Answer<StatusCode> {
    let node = app
        .node(&caller, Scope::SessionWrite, id, Need::Use)
        .await?;
    let data = ws::either(input.data, input.data_base64)?;
    node.session_input(id, session, data).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn frame(out: &mut BytesMut, event: &SessionEvent) {
    sse::begin(out, event.seq);
    json::exec_event(out, event.seq, Some(event.exec), &event.event);
    sse::end(out);
}

/// Follow what a session's execs write, as server-sent events numbered through the session.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/sessions/{session_id}/stream", tag = "sessions",
    params(
        ("id" = String, Path), ("session_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The last event that the reader has."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same; goes before `after`."),
    ),
    responses((status = 200, body = api::StreamEvent, content_type = "text/event-stream"))
)]
async fn stream_session(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, session)): Path<(SandboxId, SessionId)>,
    After(after): After,
) -> Answer<Response> {
    let node = app
        .node(&caller, Scope::SessionRead, id, Need::Journal)
        .await?;
    let events = node.session_events(id, session, after).await?;
    Ok(sse::response(events, &app.draining, frame))
}
