//! The process service: execs, found by their pid or tag.

mod events;
mod message;

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use skerry_http::{App, check_start};
use skerry_proto::node::{Command, ExecFilter, ExecRecord, StartExec};
use skerry_types::limits::MAX_RUNNING_EXECS;
use skerry_types::{Error, ErrorCode, ExecId, ExecStatus};

use self::events::{Event, events, words};
use self::message::{
    Input, List, Process, Pty, Selector, SendInput, SendSignal, Signal, Start, StreamInput, Update,
    Which,
};
use super::connect::{
    Answer, Anything, Code, Empty, Incoming, Opening, Refusal, Unary, streamed_once,
};
use super::inside::Inside;
use super::path::no_user;
use super::stream::{Terms, refused, response};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/process.Process/Start", post(start))
        .route("/process.Process/Connect", post(connect))
        .route("/process.Process/List", post(list))
        .route("/process.Process/SendInput", post(send_input))
        .route("/process.Process/StreamInput", post(stream_input))
        .route("/process.Process/CloseStdin", post(close_stdin))
        .route("/process.Process/SendSignal", post(send_signal))
        .route("/process.Process/Update", post(update))
}

/// Starts a process and follows it. It goes on when its client leaves, and ends when the time of the call is up.
async fn start(
    State(app): State<App>,
    Extension(inside): Extension<Inside>,
    headers: HeaderMap,
    Opening(request): Opening<Start>,
) -> Response {
    let terms = Terms::of(&headers);
    let started = async {
        let start = exec(&app, &inside, request?, terms.timeout).await?;
        let started = inside.node.start_exec(inside.sandbox, start).await?;
        Ok(inside.node.await_exec(inside.sandbox, started.id).await?)
    };
    match started.await {
        Ok(record) => follow(&app, &inside, &record, 0, terms).await,
        Err(refusal) => refused(&refusal),
    }
}

async fn exec(
    app: &App,
    inside: &Inside,
    Start {
        process,
        pty,
        tag,
        stdin,
    }: Start,
    timeout: Option<Duration>,
) -> Result<StartExec, Refusal> {
    let quotas = app.control().quotas(&inside.caller).await?;
    let most = Duration::from_secs(quotas.max_exec_seconds.into());
    let cwd = match process.cwd.filter(|cwd| !cwd.is_empty()) {
        Some(cwd) if cwd.starts_with('/') => Some(cwd),
        Some(cwd) => Some(inside.path(&cwd).await?),
        None => None,
    };
    let argv: Vec<String> = std::iter::once(process.cmd).chain(process.args).collect();
    let start = StartExec {
        id: ExecId::new(),
        command: Command::Argv(argv),
        cwd,
        env: process.envs,
        user: inside.user.clone(),
        stdin: stdin.unwrap_or(true),
        tty: pty.map(Pty::size),
        // A terminal may stay open for as long as its sandbox lives.
        timeout: match pty {
            Some(_) => timeout,
            None => Some(timeout.map_or(most, |timeout| timeout.min(most))),
        },
        session: None,
        tag,
    };
    check_start(&start)?;
    Ok(start)
}

/// Follows a process from now on. Of one that has ended there is its end.
async fn connect(
    State(app): State<App>,
    Extension(inside): Extension<Inside>,
    headers: HeaderMap,
    Opening(request): Opening<Which>,
) -> Response {
    let found = async { inside.process(request?.process).await };
    match found.await {
        Ok(record) => {
            let seen = record.last_seq - u64::from(record.end.is_some());
            follow(&app, &inside, &record, seen, Terms::of(&headers)).await
        }
        Err(refusal) => refused(&refusal),
    }
}

async fn follow(
    app: &App,
    inside: &Inside,
    record: &ExecRecord,
    after: u64,
    terms: Terms,
) -> Response {
    let (node, sandbox) = (&inside.node, inside.sandbox);
    match node.exec_events(sandbox, record.id, after, true).await {
        Ok(source) => {
            let source = events(source, record.tty);
            match record.pid {
                Some(pid) => response(source, words(pid), terms, &app.ending()),
                None => refused(&inside.why_not(record, source).await),
            }
        }
        Err(error) => refused(&error.into()),
    }
}

/// The processes that run, those of other clients too.
async fn list(Extension(inside): Extension<Inside>, Unary(_): Unary<Anything>) -> Answer<List> {
    let running = ExecFilter {
        status: Some(ExecStatus::Running),
        limit: MAX_RUNNING_EXECS,
        ..ExecFilter::default()
    };
    let records = inside.node.list_execs(inside.sandbox, running).await?;
    let processes = records.into_iter().filter_map(Process::of).collect();
    Ok(Json(List { processes }))
}

async fn send_input(
    Extension(inside): Extension<Inside>,
    Unary(request): Unary<SendInput>,
) -> Answer<Empty> {
    let record = inside.running(request.process).await?;
    inside.feed(&record, request.input).await?;
    Ok(Json(Empty {}))
}

/// Passes on what a client types for as long as it likes.
async fn stream_input(Extension(inside): Extension<Inside>, mut messages: Incoming) -> Response {
    let passed_on = async {
        let mut target = None;
        while let Some(StreamInput { start, data }) = messages.next().await? {
            if let Some(start) = start {
                target = Some(inside.running(start.process).await?);
            }
            if let Some(data) = data {
                let Some(target) = &target else {
                    return Err(Refusal::invalid("the first message must name a process"));
                };
                inside.feed(target, data.input).await?;
            }
        }
        Ok(Empty {})
    };
    streamed_once(passed_on.await)
}

async fn close_stdin(
    Extension(inside): Extension<Inside>,
    Unary(request): Unary<Which>,
) -> Answer<Empty> {
    let record = inside.running(request.process).await?;
    let (node, sandbox) = (&inside.node, inside.sandbox);
    let closed = node.exec_stdin(sandbox, record.id, Bytes::new(), true);
    inside.taken(&record, closed.await).await?;
    Ok(Json(Empty {}))
}

async fn send_signal(
    Extension(inside): Extension<Inside>,
    Unary(request): Unary<SendSignal>,
) -> Answer<Empty> {
    let Signal(Some(signal)) = request.signal else {
        return Err(Refusal::invalid(
            "signal: must be SIGNAL_SIGTERM or SIGNAL_SIGKILL",
        ));
    };
    let record = inside.running(request.process).await?;
    let (node, sandbox) = (&inside.node, inside.sandbox);
    let sent = node.exec_signal(sandbox, record.id, signal).await;
    sent.map_err(|error| match error.code {
        // It ended in between, or is just about to.
        ErrorCode::Conflict => Refusal::new(Code::NotFound, error.message),
        _ => error.into(),
    })?;
    Ok(Json(Empty {}))
}

async fn update(
    Extension(inside): Extension<Inside>,
    Unary(request): Unary<Update>,
) -> Answer<Empty> {
    let record = inside.running(request.process).await?;
    if let Some(pty) = request.pty {
        let (node, sandbox) = (&inside.node, inside.sandbox);
        let resized = node.exec_resize(sandbox, record.id, pty.size()).await;
        inside.taken(&record, resized).await?;
    }
    Ok(Json(Empty {}))
}

impl Inside {
    async fn process(&self, selector: Selector) -> Result<ExecRecord, Refusal> {
        Ok(self.node.find_exec(self.sandbox, &selector.name()?).await?)
    }

    /// Why an exec never ran. Only then is it looked at what the client may have got wrong.
    async fn why_not(
        &self,
        record: &ExecRecord,
        mut source: BoxStream<'static, Result<Event, Refusal>>,
    ) -> Refusal {
        let user = record.user.as_deref();
        if let Err(error) = self.node.find_user(self.sandbox, user).await {
            return no_user(error, user).into();
        }
        if let Some(cwd) = &record.cwd
            && let Ok(None) = self.look(cwd).await
        {
            return Refusal::invalid(format!("cwd '{cwd}' does not exist"));
        }
        let told = source.next().await.and_then(Result::err);
        told.unwrap_or_else(|| Refusal::new(Code::Internal, "the process never ran"))
    }

    async fn running(&self, selector: Selector) -> Result<ExecRecord, Refusal> {
        let record = self.process(selector).await?;
        match record.end {
            None => Ok(record),
            Some(_) => Err(ended()),
        }
    }

    /// What came of something that only a running process takes. One that ended in between is not there any more: clients rely on it.
    async fn taken(&self, record: &ExecRecord, done: Result<(), Error>) -> Result<(), Refusal> {
        let Err(error) = done else { return Ok(()) };
        let now = self.node.get_exec(self.sandbox, record.id).await?;
        Err(now.end.map_or(error.into(), |_| ended()))
    }

    async fn feed(&self, record: &ExecRecord, input: Input) -> Result<(), Refusal> {
        let data = match (input.stdin, input.pty, record.tty) {
            (Some(data), _, false) | (None, Some(data), true) => data,
            (Some(_), _, true) => {
                return Err(Refusal::precondition(
                    "the process has a terminal, and no other input",
                ));
            }
            (None, Some(_), false) => {
                return Err(Refusal::precondition("the process has no terminal"));
            }
            (None, None, _) => return Err(Refusal::invalid("input: is missing")),
        };
        let fed = self.node.exec_stdin(self.sandbox, record.id, data, false);
        self.taken(record, fed.await).await
    }
}

fn ended() -> Refusal {
    Refusal::new(Code::NotFound, "the process has ended")
}
