//! Terminals in a sandbox.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use reqwest::{Method, Upgraded, Url, header};
use serde::Deserialize;
use skerry_api::{ClientMessage, Exec, OpenPty, StreamEvent};
use skerry_types::ExecId;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::client::Client;
use crate::error::{ClientError, Result};
use crate::follow::Outage;
use crate::output::{Exit, Output};
use crate::sandbox::Sandbox;
use crate::send::broken;

/// A server shows that it lives every 30 s.
const SILENCE: Duration = Duration::from_secs(75);

type Socket = WebSocketStream<Upgraded>;

/// A terminal that a program runs on. A connection that breaks is made anew, and what the program wrote meanwhile follows.
#[derive(Debug)]
pub struct Terminal {
    client: Client,
    url: Url,
    socket: Option<Socket>,
    after: u64,
    /// Output whose number has not come yet.
    unnumbered: Option<Bytes>,
    outage: Outage,
}

/// What comes from a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    /// Bytes for the screen.
    Output(Bytes),
    /// The program ended; nothing follows.
    Exit(Exit),
}

#[derive(Deserialize)]
struct Text {
    t: String,
    seq: Option<u64>,
}

impl Sandbox {
    /// Starts a program on a terminal. Nobody needs to be attached to it.
    pub async fn open_terminal(&self, request: &OpenPty) -> Result<Exec> {
        self.client()
            .post_once(&self.below(&["pty"]), request)
            .await
    }

    /// Attaches to a terminal, from its first byte or after a position.
    pub async fn attach_terminal(&self, exec: ExecId, after: u64) -> Result<Terminal> {
        let id = exec.to_string();
        let url = self.client().route(&self.below(&["pty", &id, "ws"]));
        let mut terminal = Terminal {
            client: self.client().clone(),
            url,
            socket: None,
            after,
            unnumbered: None,
            outage: Outage::default(),
        };
        terminal.connect().await?;
        Ok(terminal)
    }

    /// Hangs up: the program is told, and killed if it does not go.
    pub async fn close_terminal(&self, exec: ExecId) -> Result<Exec> {
        let id = exec.to_string();
        self.client().delete(&self.below(&["pty", &id])).await
    }
}

impl Terminal {
    /// The next thing to come. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<TerminalEvent> {
        loop {
            match self.try_next().await {
                Ok(Some(event)) => {
                    self.outage = Outage::default();
                    return Ok(event);
                }
                Ok(None) => {}
                Err(error) => self.lost(error).await?,
            }
        }
    }

    /// Gives the program input.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        self.put(Message::Binary(data)).await
    }

    /// Gives the terminal a new size.
    pub async fn resize(&mut self, cols: u16, rows: u16) -> Result<()> {
        let message = ClientMessage::Resize { cols, rows };
        let text = serde_json::to_string(&message).map_err(ClientError::Unreadable)?;
        self.put(Message::Text(text.into())).await
    }

    async fn put(&mut self, message: Message) -> Result<()> {
        loop {
            let sent = match self.connect().await {
                Ok(socket) => socket.send(message.clone()).await.map_err(lost),
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => {
                    self.outage = Outage::default();
                    return Ok(());
                }
                Err(error) => self.lost(error).await?,
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<TerminalEvent>> {
        let socket = self.connect().await?;
        let Ok(message) = tokio::time::timeout(SILENCE, socket.next()).await else {
            return Err(ClientError::CutOff);
        };
        match message {
            Some(Ok(Message::Binary(data))) => {
                self.unnumbered = Some(data);
                Ok(None)
            }
            Some(Ok(Message::Text(text))) => self.text(&text),
            Some(Ok(Message::Close(_))) | None => Err(ClientError::CutOff),
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Err(lost(error)),
        }
    }

    fn text(&mut self, text: &str) -> Result<Option<TerminalEvent>> {
        let head: Text = serde_json::from_str(text).map_err(ClientError::Unreadable)?;
        match head.t.as_str() {
            "position" => {
                self.after = head.seq.unwrap_or(self.after);
                Ok(self.unnumbered.take().map(TerminalEvent::Output))
            }
            "exit" => {
                let event: StreamEvent =
                    serde_json::from_str(text).map_err(ClientError::Unreadable)?;
                match Output::of(event)? {
                    Output::Exit(exit) => Ok(Some(TerminalEvent::Exit(exit))),
                    _ => Ok(None),
                }
            }
            // A complaint about input, such as a key that came after the program's end: the end follows.
            _ => Ok(None),
        }
    }

    /// The connection that there is, or a new one.
    async fn connect(&mut self) -> Result<&mut Socket> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.client.upgrade(&self.url, self.after).await?,
        };
        Ok(self.socket.insert(socket))
    }

    async fn lost(&mut self, error: ClientError) -> Result<()> {
        self.socket = None;
        self.unnumbered = None;
        self.outage.pause(error).await
    }
}

fn lost(error: SocketError) -> ClientError {
    ClientError::Terminal(Box::new(error))
}

impl Client {
    async fn upgrade(&self, url: &Url, after: u64) -> Result<Socket> {
        let request = self
            .http()
            .request(Method::GET, url.clone())
            .query(&[("after", after)])
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .build()
            .map_err(ClientError::Request)?;
        let response = self.send_once(request).await?;
        let status = response.status().as_u16();
        if status != 101 {
            return Err(ClientError::Strange { status });
        }
        let upgraded = response.upgrade().await.map_err(broken)?;
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)
    }
}
