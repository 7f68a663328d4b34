//! WebSockets: the events of an exec one way, input the other.

use std::pin::pin;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use skerry_api::ClientMessage;
use skerry_proto::node::{ExecEvent, ExecEventBody, Node, TtySize};
use skerry_types::{Error, ErrorCode, ExecId, Result, SandboxId};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::Failure;
use crate::{check, json};

/// What a client may send in one message.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// A sign of life this often, so that a dead client is noticed.
const PING: Duration = Duration::from_secs(30);
/// How long a client may take to answer the farewell.
const FAREWELL: Duration = Duration::from_secs(10);
/// Complaints about input that wait for the output to be sent; a client that makes more of them than it reads loses some.
const COMPLAINTS: usize = 8;

/// How output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Each event as JSON text.
    Events,
    /// Bytes as binary messages, each followed by the number of the last event in it; the end as JSON text.
    Terminal,
}

/// A request that wants to become a WebSocket.
pub(crate) struct Upgrade(WebSocketUpgrade);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        WebSocketUpgrade::from_request_parts(parts, state)
            .await
            .map(Self)
            .map_err(|rejection| {
                Error::new(ErrorCode::BadRequest, rejection.body_text())
                    .with_hint("this is a WebSocket; use /stream for server-sent events")
                    .into()
            })
    }
}

/// An exec as both ends of a WebSocket see it.
pub(crate) struct Attached {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) sandbox: SandboxId,
    pub(crate) exec: ExecId,
    pub(crate) events: BoxStream<'static, Result<ExecEvent>>,
    pub(crate) form: Form,
    pub(crate) closing: CancellationToken,
    pub(crate) may_write: bool,
}

type Sink = SplitSink<WebSocket, Message>;

impl Attached {
    /// Answers the upgrade and serves it until the exec ends, the client goes, or the server ends.
    pub(crate) fn serve(self, Upgrade(upgrade): Upgrade) -> Response {
        upgrade
            .max_message_size(MAX_MESSAGE_BYTES)
            .max_frame_size(MAX_MESSAGE_BYTES)
            .on_upgrade(move |socket| self.run(socket))
    }

    async fn run(self, socket: WebSocket) {
        let (sink, source) = socket.split();
        let (complain, complaints) = mpsc::channel(COMPLAINTS);
        let Self {
            node,
            sandbox,
            exec,
            events,
            form,
            closing,
            may_write,
        } = self;
        let input = Input {
            node,
            sandbox,
            exec,
            may_write,
        };
        let mut input = pin!(input.take(source, complain));
        // Two halves, so that input that the program does not take never holds up its output.
        tokio::select! {
            // A broken connection ends the stream; the client resumes after the last number it saw.
            _ = send(sink, events, form, complaints, closing) => {
                // Input that meets a closed socket resets it, and the client loses what is still on its way.
                let _late = tokio::time::timeout(FAREWELL, input).await;
            }
            () = &mut input => {}
        }
    }
}

async fn send(
    mut sink: Sink,
    mut events: BoxStream<'static, Result<ExecEvent>>,
    form: Form,
    mut complaints: mpsc::Receiver<Error>,
    closing: CancellationToken,
) -> Result<(), axum::Error> {
    let mut ping = tokio::time::interval(PING);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    let over = matches!(event.body, ExecEventBody::End { .. });
                    send_event(&mut sink, form, &event).await?;
                    if over {
                        return close(sink, 1000, "the exec ended").await;
                    }
                }
                Some(Err(error)) => {
                    sink.send(complaint(&error)).await?;
                    return close(sink, 1011, "the stream broke").await;
                }
                None => return close(sink, 1001, "the stream ended").await,
            },
            Some(error) = complaints.recv() => sink.send(complaint(&error)).await?,
            _ = ping.tick() => sink.send(Message::Ping(Bytes::new())).await?,
            () = closing.cancelled() => return close(sink, 1012, "the server is ending").await,
        }
    }
}

async fn send_event(sink: &mut Sink, form: Form, event: &ExecEvent) -> Result<(), axum::Error> {
    if form == Form::Terminal
        && let ExecEventBody::Stdout(data) | ExecEventBody::Stderr(data) = &event.body
    {
        sink.feed(Message::Binary(data.clone())).await?;
        let position = format!("{{\"t\":\"position\",\"seq\":{}}}", event.seq);
        return sink.send(Message::Text(position.into())).await;
    }
    let mut text = BytesMut::new();
    json::exec_event(&mut text, event.seq, None, event);
    sink.send(text_message(text)).await
}

fn text_message(text: BytesMut) -> Message {
    // What is not UTF-8 was written as base64, so this is always text.
    Message::Text(Utf8Bytes::try_from(text.freeze()).unwrap_or_default())
}

#[derive(Serialize)]
struct Complaint<'a> {
    t: &'static str,
    #[serde(flatten)]
    error: &'a Error,
}

fn complaint(error: &Error) -> Message {
    let mut text = BytesMut::new();
    json::value(&mut text, &Complaint { t: "error", error });
    text_message(text)
}

async fn close(mut sink: Sink, code: u16, reason: &'static str) -> Result<(), axum::Error> {
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    };
    sink.send(Message::Close(Some(frame))).await
}

struct Input {
    node: Arc<dyn Node>,
    sandbox: SandboxId,
    exec: ExecId,
    may_write: bool,
}

impl Input {
    /// Gives the exec what the client sends, until the client goes; a farewell is answered when the next message is asked for.
    async fn take(self, mut source: SplitStream<WebSocket>, complain: mpsc::Sender<Error>) {
        while let Some(Ok(message)) = source.next().await {
            let outcome = match message {
                Message::Binary(data) => self.stdin(data, false).await,
                Message::Text(text) => self.text(&text).await,
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
            };
            if let Err(error) = outcome {
                let _full = complain.try_send(error);
            }
        }
    }

    async fn text(&self, text: &str) -> Result<()> {
        let message: ClientMessage =
            serde_json::from_str(text).map_err(|error| Error::validation(error.to_string()))?;
        match message {
            ClientMessage::Stdin { data, data_base64 } => {
                self.stdin(either(data, data_base64)?, false).await
            }
            ClientMessage::Close => self.stdin(Bytes::new(), true).await,
            ClientMessage::Signal { signal } => {
                self.allowed()?;
                let signal = check::signal(&signal)?;
                self.node.exec_signal(self.sandbox, self.exec, signal).await
            }
            ClientMessage::Resize { cols, rows } => {
                self.allowed()?;
                let size = TtySize { cols, rows };
                self.node.exec_resize(self.sandbox, self.exec, size).await
            }
        }
    }

    async fn stdin(&self, data: Bytes, eof: bool) -> Result<()> {
        self.allowed()?;
        self.node
            .exec_stdin(self.sandbox, self.exec, data, eof)
            .await
    }

    fn allowed(&self) -> Result<()> {
        if self.may_write {
            return Ok(());
        }
        Err(Error::new(ErrorCode::Forbidden, "this key may only look"))
    }
}

/// Input as text or as base64.
pub(crate) fn either(text: Option<String>, coded: Option<String>) -> Result<Bytes> {
    match (text, coded) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(coded)) => STANDARD
            .decode(coded)
            .map(Bytes::from)
            .map_err(|error| Error::validation(format!("data_base64: {error}"))),
        _ => Err(Error::validation("give one of data and data_base64")),
    }
}
