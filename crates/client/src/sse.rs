//! Server-sent events: bytes in, events out.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use reqwest::Response;
use serde::de::DeserializeOwned;

use crate::error::{ClientError, Result};
use crate::send::broken;

/// Larger than any frame that a server sends: 1 MiB of output, as base64, and what stands around it.
const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// A server shows that it lives every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// An event as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) id: Option<u64>,
    pub(crate) is_error: bool,
    pub(crate) data: Vec<u8>,
}

/// Cuts bytes into frames, however they were cut on their way.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// Bytes of the buffer without a line's end in them.
    searched: usize,
    current: Frame,
    has_data: bool,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame that has data.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        while let Some(length) = self.line_length() {
            let mut line = self.buffer.split_to(length);
            self.buffer.advance(1);
            self.searched = 0;
            if line.ends_with(b"\r") {
                line.truncate(line.len() - 1);
            }
            if !line.is_empty() {
                self.field(&line)?;
            } else if std::mem::take(&mut self.has_data) {
                return Ok(Some(std::mem::take(&mut self.current)));
            } else {
                self.current = Frame::default();
            }
        }
        if self.buffer.len() > MAX_FRAME_BYTES {
            return Err(ClientError::TooLarge);
        }
        Ok(None)
    }

    fn line_length(&mut self) -> Option<usize> {
        let rest = &self.buffer[self.searched..];
        if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            return Some(self.searched + at);
        }
        self.searched = self.buffer.len();
        None
    }

    fn field(&mut self, line: &[u8]) -> Result<()> {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                if self.has_data {
                    self.current.data.push(b'\n');
                }
                if self.current.data.len() + value.len() > MAX_FRAME_BYTES {
                    return Err(ClientError::TooLarge);
                }
                self.current.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"id" => self.current.id = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()),
            b"event" => self.current.is_error = value == b"error",
            // `retry` and comments, which begin with the colon.
            _ => {}
        }
        Ok(())
    }
}

/// The events of one connection.
pub struct Stream<T> {
    response: Response,
    frames: Frames,
    kind: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Stream<T> {
    pub(crate) fn new(response: Response) -> Self {
        Self {
            response,
            frames: Frames::default(),
            kind: PhantomData,
        }
    }

    /// The next event; `None` at the end. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<Option<T>> {
        Ok(self.next_numbered().await?.map(|(_, event)| event))
    }

    /// The same with its number, if it has one.
    pub(crate) async fn next_numbered(&mut self) -> Result<Option<(Option<u64>, T)>> {
        loop {
            if let Some(frame) = self.frames.next()? {
                return read(&frame).map(Some);
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await;
            let Ok(chunk) = chunk else {
                return Err(ClientError::CutOff);
            };
            match chunk.map_err(broken)? {
                Some(bytes) => self.frames.push(&bytes),
                None => return Ok(None),
            }
        }
    }
}

fn read<T: DeserializeOwned>(frame: &Frame) -> Result<(Option<u64>, T)> {
    if frame.is_error {
        let error = serde_json::from_slice(&frame.data).map_err(ClientError::Unreadable)?;
        return Err(ClientError::Refused {
            error: Box::new(error),
            request_id: None,
        });
    }
    let event = serde_json::from_slice(&frame.data).map_err(ClientError::Unreadable)?;
    Ok((frame.id, event))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut parser = Frames::default();
        let mut out = Vec::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(frame) = parser.next().unwrap() {
                out.push(frame);
            }
        }
        out
    }

    #[test]
    fn comments_and_frames_without_data_are_skipped() {
        let found = frames(&[b"retry: 1000\n\n: alive\n\nid: 7\r\ndata: a\r\ndata:b\r\n\r\nevent: error\ndata: {}\n\n"]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].id, &found[0].data[..]), (Some(7), &b"a\nb"[..]));
        assert!(found[1].is_error && found[1].id.is_none());
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut parser = Frames::default();
        let mut pushed = 0;
        while parser.next().is_ok() {
            parser.push(&vec![b'x'; 65536]);
            pushed += 65536;
            assert!(pushed <= MAX_FRAME_BYTES + 65536, "it grows without bound");
        }
    }

    #[test]
    fn a_frame_of_many_lines_is_refused() {
        let mut parser = Frames::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; 65536], b"\n"].concat();
        let refused = (0..1000).any(|_| {
            parser.push(&line);
            parser.next().is_err()
        });
        assert!(refused);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(cuts in prop::collection::vec(0usize..120, 0..12), crlf: bool) {
            let frame = |n| format!("id: {n}\ndata: {{\"n\":{n},\"s\":\"ä€\"}}\n\n: alive\n\n");
            let mut text: String = (1..6).map(frame).collect();
            if crlf {
                text = text.replace('\n', "\r\n");
            }
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(frames(&pieces), frames(&[bytes]));
            prop_assert_eq!(frames(&pieces).len(), 5);
        }
    }
}
