//! The byte stream to an agent, made anew whenever it breaks. Everything that arrives is counted and bounded before it is looked at.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;
use skerry_driver::{AgentLink, Driver, DriverError};
use skerry_proto::agent::{FromAgent, ToAgent, from_agent, to_agent};
use skerry_proto::frame;
use skerry_types::SandboxId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::names::Names;

/// Bytes asked for in one read.
const MAX_READ_BYTES: usize = 256 * 1024;
const MIN_READ_BYTES: usize = 8 * 1024;
/// Messages looked at together: tiny ones take far more memory than bytes.
const MAX_MESSAGES: usize = 2048;
/// Unsent bytes beyond which an agent counts as hung and the link is made anew.
const MAX_UNSENT_BYTES: usize = 16 * 1024 * 1024;
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// What happened on the link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// It stands. What is open must be attached again.
    Up,
    /// It broke; requests on it are lost. It is being made anew.
    Down(String),
    /// Messages, in order.
    Messages(Vec<FromAgent>),
}

enum State {
    Down {
        connecting: BoxFuture<'static, Result<AgentLink, DriverError>>,
    },
    Up {
        read: ReadHalf<AgentLink>,
        write: WriteHalf<AgentLink>,
        /// The agent has said what it has.
        is_greeted: bool,
    },
}

/// Why a link ends.
enum Broken {
    /// It broke.
    Lost(String),
    /// What came over it cannot be.
    Absurd(String),
}

/// See the module.
pub(crate) struct Link {
    driver: Arc<dyn Driver>,
    id: SandboxId,
    names: Names,
    state: State,
    input: BytesMut,
    output: BytesMut,
    /// Grows while reads come back full: a quiet sandbox keeps no big buffer.
    read_bytes: usize,
    retry: Duration,
}

impl Link {
    pub(crate) fn new(driver: Arc<dyn Driver>, id: SandboxId, names: Names) -> Self {
        let connecting = connect(Arc::clone(&driver), id, Duration::ZERO);
        Self {
            driver,
            id,
            names,
            state: State::Down { connecting },
            input: BytesMut::new(),
            output: BytesMut::new(),
            read_bytes: MIN_READ_BYTES,
            retry: FIRST_RETRY,
        }
    }

    /// Queues a message. On a link that is down it is dropped: after `Up` everything that matters is said again.
    pub(crate) fn send(&mut self, mut body: to_agent::Body) {
        if self.is_up() {
            self.names.write(&mut body);
            frame::encode(&ToAgent { body: Some(body) }, &mut self.output);
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// The agent has said what it has: what is asked now is asked after that.
    pub(crate) fn greet(&mut self) {
        if let State::Up { is_greeted, .. } = &mut self.state {
            *is_greeted = true;
        }
    }

    pub(crate) fn is_greeted(&self) -> bool {
        matches!(self.state, State::Up { is_greeted, .. } if is_greeted)
    }

    /// Whether more may be queued without hurry.
    pub(crate) fn has_room(&self) -> bool {
        self.output.len() < 4 * MAX_READ_BYTES
    }

    /// The same for data, which leaves room for all else.
    pub(crate) fn has_room_for_bulk(&self) -> bool {
        self.output.len() < MAX_READ_BYTES
    }

    /// Breaks the link.
    pub(crate) fn reset(&mut self, why: &str) -> LinkEvent {
        self.input = BytesMut::new();
        self.output = BytesMut::new();
        let connecting = connect(Arc::clone(&self.driver), self.id, self.retry);
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.state = State::Down { connecting };
        LinkEvent::Down(why.to_owned())
    }

    /// Breaks the link with an agent that keeps to no rule. There is no hurry to hear more of it.
    pub(crate) fn refuse(&mut self, why: &str) -> LinkEvent {
        tracing::warn!(sandbox = %self.id, why, "the agent is not heard");
        self.retry = LAST_RETRY;
        self.reset(why)
    }

    /// The next thing that happens; safe to drop and call again. Without `read` it only sends.
    pub(crate) async fn next(&mut self, read: bool) -> LinkEvent {
        loop {
            match &mut self.state {
                State::Down { connecting } => match connecting.await {
                    Ok(stream) => {
                        let (read, write) = tokio::io::split(stream);
                        self.state = State::Up {
                            read,
                            write,
                            is_greeted: false,
                        };
                        return LinkEvent::Up;
                    }
                    Err(error) => drop(self.reset(&error.to_string())),
                },
                State::Up { .. } => match self.transfer(read).await {
                    Ok(messages) if messages.is_empty() => {}
                    Ok(messages) => {
                        self.retry = FIRST_RETRY;
                        return LinkEvent::Messages(messages);
                    }
                    Err(Broken::Lost(why)) => return self.reset(&why),
                    Err(Broken::Absurd(why)) => return self.refuse(&why),
                },
            }
        }
    }

    async fn transfer(&mut self, may_read: bool) -> Result<Vec<FromAgent>, Broken> {
        if may_read {
            let messages = self.decode()?;
            if !messages.is_empty() {
                return Ok(messages);
            }
        }
        let State::Up { read, write, .. } = &mut self.state else {
            return Ok(Vec::new());
        };
        if self.output.len() > MAX_UNSENT_BYTES {
            return Err(Broken::Lost("the agent does not read".to_owned()));
        }
        self.input.reserve(self.read_bytes);
        tokio::select! {
            got = read.read_buf(&mut self.input), if may_read => match got {
                Ok(0) => Err(Broken::Lost("the agent closed the link".to_owned())),
                Ok(count) => {
                    self.read_bytes = if count >= self.read_bytes {
                        (self.read_bytes * 2).min(MAX_READ_BYTES)
                    } else {
                        MIN_READ_BYTES.max(self.read_bytes / 2)
                    };
                    self.decode()
                }
                Err(e) => Err(Broken::Lost(e.to_string())),
            },
            sent = write.write_buf(&mut self.output), if !self.output.is_empty() => {
                sent.map(|_| Vec::new()).map_err(|e| Broken::Lost(e.to_string()))
            }
            else => std::future::pending().await,
        }
    }

    /// What came, up to the first answer: those are the large ones.
    fn decode(&mut self) -> Result<Vec<FromAgent>, Broken> {
        let mut messages = Vec::new();
        let mut was_answer = false;
        while messages.len() < MAX_MESSAGES
            && !was_answer
            && let Some(mut message) = decode_one(&mut self.input)?
        {
            if let Some(body) = &mut message.body {
                self.names.read(body);
                was_answer = matches!(body, from_agent::Body::Response(_));
            }
            messages.push(message);
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(messages)
    }
}

fn decode_one(input: &mut BytesMut) -> Result<Option<FromAgent>, Broken> {
    frame::decode_from_agent(input).map_err(|e| Broken::Absurd(e.to_string()))
}

fn connect(
    driver: Arc<dyn Driver>,
    id: SandboxId,
    delay: Duration,
) -> BoxFuture<'static, Result<AgentLink, DriverError>> {
    async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        driver.connect(id).await
    }
    .boxed()
}
