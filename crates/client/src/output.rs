//! What an exec writes, and how it ends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::Error as _;
use skerry_api::{Event, ResourceUsage, StreamEvent};
use skerry_types::{ExecEnd, ExecId};

use crate::error::{ClientError, Result};

/// An event of an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes it wrote to stdout.
    Stdout(Bytes),
    /// Bytes it wrote to stderr.
    Stderr(Bytes),
    /// It ended; the last event.
    Exit(Exit),
}

#[derive(Deserialize)]
struct Written {
    exec_id: ExecId,
    stream: WrittenTo,
    data: Option<String>,
    data_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenTo {
    Stdout,
    Stderr,
}

/// The end of an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// How.
    pub end: ExecEnd,
    /// From start to end.
    pub duration_ms: u64,
    /// What it used.
    pub usage: ResourceUsage,
}

impl Output {
    /// Reads an event of a stream.
    pub fn of(event: StreamEvent) -> Result<Self> {
        match event.t.as_str() {
            "stdout" => bytes(event).map(Self::Stdout),
            "stderr" => bytes(event).map(Self::Stderr),
            "exit" => exit(event).map(Self::Exit),
            other => Err(unreadable(format!("`{other}` is no kind of event"))),
        }
    }

    /// Reads what an event of a sandbox's record says that an exec wrote; `None` if it says something else.
    pub fn of_record(event: &Event) -> Result<Option<(ExecId, Self)>> {
        if event.kind != "exec.output" {
            return Ok(None);
        }
        let written = Written::deserialize(&event.data).map_err(ClientError::Unreadable)?;
        let bytes = text_or_base64(written.data, written.data_base64)?;
        let output = match written.stream {
            WrittenTo::Stdout => Self::Stdout(bytes),
            WrittenTo::Stderr => Self::Stderr(bytes),
        };
        Ok(Some((written.exec_id, output)))
    }
}

fn bytes(event: StreamEvent) -> Result<Bytes> {
    text_or_base64(event.data, event.data_base64)
}

fn text_or_base64(text: Option<String>, coded: Option<String>) -> Result<Bytes> {
    match (text, coded) {
        (Some(text), _) => Ok(text.into()),
        (None, Some(coded)) => STANDARD
            .decode(coded)
            .map(Bytes::from)
            .map_err(|error| unreadable(error.to_string())),
        (None, None) => Ok(Bytes::new()),
    }
}

fn exit(event: StreamEvent) -> Result<Exit> {
    Ok(Exit {
        end: event
            .end
            .ok_or_else(|| unreadable("an exit without an end".to_owned()))?,
        duration_ms: event.duration_ms.unwrap_or_default(),
        usage: event.resource_usage.unwrap_or(ResourceUsage {
            cpu_ms: 0,
            peak_memory_bytes: None,
        }),
    })
}

fn unreadable(reason: String) -> ClientError {
    ClientError::Unreadable(serde_json::Error::custom(reason))
}
