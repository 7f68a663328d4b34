//! What an exec wrote, gathered for an answer that waits for its end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::BoxStream;
use skerry_api::{Encoding, ExecResult};
use skerry_proto::node::{ExecEvent, ExecEventBody};
use skerry_types::limits::SYNC_OUTPUT_BYTES;
use skerry_types::{Error, ErrorCode, ExecId, Result};

use crate::convert;

/// Reads the events of an exec to their end and keeps the first MiB of each stream.
pub(crate) async fn collect(
    exec: ExecId,
    mut events: BoxStream<'static, Result<ExecEvent>>,
) -> Result<ExecResult> {
    let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
    while let Some(event) = events.next().await {
        match event?.body {
            ExecEventBody::Stdout(data) => stdout.add(&data),
            ExecEventBody::Stderr(data) => stderr.add(&data),
            ExecEventBody::End {
                end,
                usage,
                duration_ms,
            } => {
                let encoding = match (stdout.text(), stderr.text()) {
                    (Some(_), Some(_)) => Encoding::Utf8,
                    _ => Encoding::Base64,
                };
                return Ok(ExecResult {
                    exec_id: exec,
                    status: end.status(),
                    exit_code: end.exit_code(),
                    end,
                    stdout_truncated: stdout.truncated,
                    stderr_truncated: stderr.truncated,
                    stdout: stdout.write(encoding),
                    stderr: stderr.write(encoding),
                    encoding,
                    duration_ms,
                    resource_usage: convert::usage(usage),
                });
            }
        }
    }
    Err(
        Error::new(ErrorCode::NodeUnreachable, "the exec's events broke off")
            .with_hint(format!("look at {exec}")),
    )
}

/// The first bytes of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn add(&mut self, data: &[u8]) {
        let room = SYNC_OUTPUT_BYTES - self.bytes.len();
        self.truncated |= data.len() > room;
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// The text, if it is one. A character that the cut went through does not count against it.
    fn text(&self) -> Option<&str> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Some(text),
            Err(error) if self.truncated && error.error_len().is_none() => {
                std::str::from_utf8(&self.bytes[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        }
    }

    fn write(&self, encoding: Encoding) -> String {
        match (encoding, self.text()) {
            (Encoding::Utf8, Some(text)) => text.to_owned(),
            _ => STANDARD.encode(&self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use skerry_types::{ExecEnd, Usage};

    use super::*;

    async fn collected(chunks: Vec<Vec<u8>>) -> ExecResult {
        let end = ExecEventBody::End {
            end: ExecEnd::Exited { code: 3 },
            usage: Usage::default(),
            duration_ms: 5,
        };
        let bodies = chunks
            .into_iter()
            .map(|chunk| ExecEventBody::Stdout(Bytes::from(chunk)))
            .chain([end]);
        let events = bodies.zip(1..).map(|(body, seq)| {
            Ok(ExecEvent {
                seq,
                at: jiff::Timestamp::UNIX_EPOCH,
                body,
            })
        });
        let events: Vec<_> = events.collect();
        collect(ExecId::new(), futures::stream::iter(events).boxed())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_megabyte_is_kept_and_no_character_is_halved() {
        let result = collected(vec![vec![b'a'; SYNC_OUTPUT_BYTES - 1], "ä".into()]).await;
        assert!(result.stdout_truncated && !result.stderr_truncated);
        assert_eq!(result.encoding, Encoding::Utf8);
        assert_eq!(result.stdout.len(), SYNC_OUTPUT_BYTES - 1);
        assert_eq!(result.exit_code, Some(3));
    }

    #[tokio::test]
    async fn exactly_a_megabyte_is_whole() {
        let result = collected(vec![vec![b'a'; SYNC_OUTPUT_BYTES]]).await;
        assert!(!result.stdout_truncated);
        assert_eq!(result.stdout.len(), SYNC_OUTPUT_BYTES);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_survive() {
        let result = collected(vec![vec![0xff], vec![0, 0x80]]).await;
        assert_eq!(result.encoding, Encoding::Base64);
        assert_eq!(STANDARD.decode(result.stdout).unwrap(), [0xff, 0, 0x80]);
    }
}
