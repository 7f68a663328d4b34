//! The messages of the process service.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize};
use skerry_proto::node::{Command, ExecName, ExecRecord, Map, TtySize};

use super::super::connect::Refusal;

/// A process to start.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Start {
    pub(super) process: Config,
    #[serde(default)]
    pub(super) pty: Option<Pty>,
    #[serde(default)]
    pub(super) tag: Option<String>,
    /// Early clients leave it out, and mean yes.
    #[serde(default)]
    pub(super) stdin: Option<bool>,
}

/// What runs.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) cmd: String,
    pub(super) args: Vec<String>,
    pub(super) envs: Map,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cwd: Option<String>,
}

/// A terminal.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Pty {
    #[serde(default)]
    size: Option<Size>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Size {
    cols: u32,
    rows: u32,
}

impl Pty {
    /// A size that is left out is 80 by 24.
    pub(super) fn size(self) -> TtySize {
        let Size { cols, rows } = self.size.unwrap_or_default();
        let fit = |n: u32, default| {
            if n == 0 {
                default
            } else {
                n.min(u16::MAX.into()) as u16
            }
        };
        TtySize {
            cols: fit(cols, 80),
            rows: fit(rows, 24),
        }
    }
}

/// Which process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Selector {
    pid: Option<u32>,
    tag: Option<String>,
}

impl Selector {
    pub(super) fn name(self) -> Result<ExecName, Refusal> {
        match (self.pid, self.tag) {
            (Some(pid), _) => Ok(ExecName::Pid(pid)),
            (None, Some(tag)) => Ok(ExecName::Tag(tag)),
            (None, None) => Err(Refusal::invalid("process: neither pid nor tag is given")),
        }
    }
}

/// A message that is about one process and says nothing more.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    pub(super) process: Selector,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SendInput {
    pub(super) process: Selector,
    pub(super) input: Input,
}

/// Bytes for a process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Input {
    #[serde(deserialize_with = "bytes")]
    pub(super) stdin: Option<Bytes>,
    #[serde(deserialize_with = "bytes")]
    pub(super) pty: Option<Bytes>,
}

/// A message of a stream of input; one without any of them is a sign of life.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamInput {
    pub(super) start: Option<Which>,
    pub(super) data: Option<Data>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Data {
    pub(super) input: Input,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SendSignal {
    pub(super) process: Selector,
    pub(super) signal: Signal,
}

/// A signal, by name or number.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(from = "serde_json::Value")]
pub(super) struct Signal(pub(super) Option<i32>);

impl From<serde_json::Value> for Signal {
    fn from(value: serde_json::Value) -> Self {
        let is = |name: &str, number: i32| value == name || value == number;
        Self(match () {
            () if is("SIGNAL_SIGKILL", 9) => Some(9),
            () if is("SIGNAL_SIGTERM", 15) => Some(15),
            () => None,
        })
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Update {
    pub(super) process: Selector,
    pub(super) pty: Option<Pty>,
}

/// What runs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct List {
    pub(super) processes: Vec<Process>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    config: Config,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

impl Process {
    /// `None` for one that has no process yet. The values of its environment are kept nowhere.
    pub(super) fn of(record: ExecRecord) -> Option<Self> {
        let argv = match record.command {
            Command::Shell(script) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
            Command::Argv(argv) => argv,
        };
        let mut argv = argv.into_iter();
        Some(Self {
            config: Config {
                cmd: argv.next().unwrap_or_default(),
                args: argv.collect(),
                envs: Map::new(),
                cwd: record.cwd,
            },
            pid: record.pid?,
            tag: record.tag,
        })
    }
}

/// Base64 in any of its spellings, as JSON of protocol buffers may have it.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const ANY: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let Some(text) = <Option<String>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    let decoded = GeneralPurpose::new(alphabet, ANY).decode(text);
    decoded
        .map(|data| Some(Bytes::from(data)))
        .map_err(serde::de::Error::custom)
}

/// Appends bytes as base64.
pub(super) fn base64(out: &mut BytesMut, data: &[u8]) {
    // A growing buffer takes everything.
    let _ = write!(
        out,
        "{}",
        base64::display::Base64Display::new(data, &STANDARD)
    );
}
