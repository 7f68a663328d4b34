//! The output and the input of execs.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Deserialize;
use skerry_api::{SendSignal, StreamEvent};
use skerry_control::{Caller, Need, Scope};
use skerry_proto::node::{ByteStream, ExecEvent, ExecEventBody};
use skerry_types::{ExecId, Result, SandboxId, limits};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{After, Json, Path, Query};
use crate::ws::{Attached, Form, Upgrade};
use crate::{App, body, check, json, sse};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(stream_exec))
        .routes(routes!(attach_exec))
        .routes(routes!(get_exec_log))
        .routes(routes!(write_exec_stdin))
        .routes(routes!(signal_exec))
}

fn frame(out: &mut BytesMut, event: &ExecEvent) {
    sse::begin(out, event.seq);
    json::exec_event(out, event.seq, None, event);
    sse::end(out);
}

/// Follow an exec's output as server-sent events, from the start or after an event; ends with the `exit` event.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec/{exec_id}/stream", tag = "execs",
    params(
        ("id" = String, Path), ("exec_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The last event that the reader has."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same; goes before `after`."),
    ),
    responses((status = 200, body = StreamEvent, content_type = "text/event-stream"))
)]
async fn stream_exec(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, exec)): Path<(SandboxId, ExecId)>,
    After(after): After,
) -> Answer<Response> {
    let node = app
        .node(&caller, Scope::ExecRead, id, Need::Journal)
        .await?;
    let events = node.exec_events(id, exec, after, true).await?;
    Ok(sse::response(events, &app.draining, frame))
}

/// Follow an exec over a WebSocket: the same events as text messages one way, input and signals the other.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec/{exec_id}/ws", tag = "execs",
    params(
        ("id" = String, Path), ("exec_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The last event that the client has."),
    ),
    responses((status = 101, description = "The connection becomes a WebSocket; see `StreamEvent` and `ClientMessage`."))
)]
async fn attach_exec(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((sandbox, exec)): Path<(SandboxId, ExecId)>,
    After(after): After,
    upgrade: Upgrade,
) -> Answer<Response> {
    let node = app
        .node(&caller, Scope::ExecRead, sandbox, Need::Journal)
        .await?;
    let events = node.exec_events(sandbox, exec, after, true).await?;
    let attached = Attached {
        node,
        sandbox,
        exec,
        events,
        form: Form::Events,
        closing: app.draining.clone(),
        may_write: caller.require(Scope::ExecCreate).is_ok(),
    };
    Ok(attached.serve(upgrade))
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LogRange {
    /// Both streams in their order unless given.
    #[serde(default)]
    #[param(inline)]
    stream: LogStream,
    /// Bytes to leave out at the start.
    #[serde(default)]
    offset: u64,
    /// At most this many bytes.
    limit: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum LogStream {
    Stdout,
    Stderr,
    #[default]
    Combined,
}

/// Download what an exec wrote, byte for byte, as far as it has come.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec/{exec_id}/log", tag = "execs",
    params(("id" = String, Path), ("exec_id" = String, Path), LogRange),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"))
)]
async fn get_exec_log(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, exec)): Path<(SandboxId, ExecId)>,
    Query(range): Query<LogRange>,
) -> Answer<Response> {
    let node = app
        .node(&caller, Scope::ExecRead, id, Need::Journal)
        .await?;
    let events = node.exec_events(id, exec, 0, false).await?;
    let limit = range.limit.unwrap_or(u64::MAX);
    let bytes = part(output(events, range.stream), range.offset, limit);
    Ok(body::download(&format!("{exec}.log"), bytes))
}

fn output(events: BoxStream<'static, Result<ExecEvent>>, stream: LogStream) -> ByteStream {
    events
        .filter_map(move |event| async move {
            match (event.map(|event| event.body), stream) {
                (Ok(ExecEventBody::Stdout(data)), LogStream::Stdout | LogStream::Combined)
                | (Ok(ExecEventBody::Stderr(data)), LogStream::Stderr | LogStream::Combined) => {
                    Some(Ok(data))
                }
                (Ok(_), _) => None,
                (Err(error), _) => Some(Err(error)),
            }
        })
        .boxed()
}

/// `limit` bytes after the first `offset`.
fn part(bytes: ByteStream, offset: u64, limit: u64) -> ByteStream {
    bytes
        .scan((offset, limit), |(skip, left), chunk| {
            let cut = chunk.map(|chunk| cut(chunk, skip, left));
            let over = *left == 0 && matches!(&cut, Ok(chunk) if chunk.is_empty());
            std::future::ready((!over).then_some(cut))
        })
        .boxed()
}

fn cut(mut chunk: Bytes, skip: &mut u64, left: &mut u64) -> Bytes {
    let skipped = (*skip).min(chunk.len() as u64);
    *skip -= skipped;
    let mut rest = chunk.split_off(skipped as usize);
    let kept = (*left).min(rest.len() as u64);
    *left -= kept;
    rest.truncate(kept as usize);
    rest
}

/// Whether input ends here.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Eof {
    /// Nothing comes after this body.
    #[serde(default)]
    eof: bool,
}

/// Give an exec the bytes of this body as input. Answers when the sandbox took them all.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/exec/{exec_id}/stdin", tag = "execs",
    params(("id" = String, Path), ("exec_id" = String, Path), Eof),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204))
)]
async fn write_exec_stdin(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, exec)): Path<(SandboxId, ExecId)>,
    Query(Eof { eof }): Query<Eof>,
    headers: HeaderMap,
    content: Body,
) -> Answer<StatusCode> {
    let node = app.node(&caller, Scope::ExecCreate, id, Need::Use).await?;
    let mut content = body::upload(&app, &headers, content, limits::MAX_FILE_BYTES)?;
    while let Some(chunk) = content.next().await {
        node.exec_stdin(id, exec, chunk?, false).await?;
    }
    if eof {
        node.exec_stdin(id, exec, Bytes::new(), true).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Send a signal to an exec's process group.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/exec/{exec_id}/signal", tag = "execs",
    params(("id" = String, Path), ("exec_id" = String, Path)),
    request_body = SendSignal, responses((status = 204))
)]
async fn signal_exec(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((id, exec)): Path<(SandboxId, ExecId)>,
    Json(request): Json<SendSignal>,
) -> Answer<StatusCode> {
    let node = app.node(&caller, Scope::ExecCreate, id, Need::Use).await?;
    let signal = check::signal(&request.signal)?;
    node.exec_signal(id, exec, signal).await?;
    Ok(StatusCode::NO_CONTENT)
}
