//! Events written as JSON by hand, straight into the buffer that goes to the socket: output is most of what this server moves.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use serde::Serialize;
use skerry_proto::node::{ExecEvent, ExecEventBody};
use skerry_types::{ExecEnd, ExecId, Usage};

/// Bytes that are looked at together.
const BLOCK: usize = 32;
/// Bytes in a word.
const WORD: usize = size_of::<u64>();
/// So many escapes in a block, and going by words is worth it.
const FEW: u8 = 4;

/// For each byte: 0 if it stands for itself, otherwise what follows the backslash (`u`: a numbered escape).
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Writes an event of an exec, or of a session when `exec` is given. One line of JSON, without a line break.
pub(crate) fn exec_event(out: &mut BytesMut, seq: u64, exec: Option<ExecId>, event: &ExecEvent) {
    put(out, format_args!("{{\"seq\":{seq},"));
    if let Some(id) = exec {
        put(out, format_args!("\"exec_id\":\"{id}\","));
    }
    match &event.body {
        ExecEventBody::Stdout(data) => output(out, "stdout", data),
        ExecEventBody::Stderr(data) => output(out, "stderr", data),
        ExecEventBody::End {
            end,
            usage,
            duration_ms,
        } => exit(out, end, *usage, *duration_ms),
    }
    out.put_u8(b'}');
}

fn output(out: &mut BytesMut, stream: &str, data: &[u8]) {
    put(out, format_args!("\"t\":\"{stream}\","));
    if let Ok(text) = std::str::from_utf8(data) {
        out.put_slice(b"\"data\":");
        string(out, text);
    } else {
        out.put_slice(b"\"encoding\":\"base64\",\"data_base64\":\"");
        base64(out, data);
        out.put_u8(b'"');
    }
}

fn exit(out: &mut BytesMut, end: &ExecEnd, usage: Usage, duration_ms: u64) {
    let status = end.status().as_str();
    put(out, format_args!("\"t\":\"exit\",\"status\":\"{status}\""));
    if let Some(code) = end.exit_code() {
        put(out, format_args!(",\"code\":{code}"));
    }
    out.put_slice(b",\"end\":");
    value(out, end);
    put(
        out,
        format_args!(
            ",\"duration_ms\":{duration_ms},\"resource_usage\":{{\"cpu_ms\":{},\"peak_memory_bytes\":",
            usage.cpu_ms
        ),
    );
    value(out, &usage.peak_memory_bytes);
    out.put_u8(b'}');
}

/// Writes anything else that has a JSON form.
pub(crate) fn value(out: &mut BytesMut, value: &impl Serialize) {
    let start = out.len();
    // A shape that cannot be written is a fault of ours; the line stays valid JSON.
    if let Err(error) = serde_json::to_writer(out.writer(), value) {
        tracing::error!(%error, "an event could not be written");
        out.truncate(start);
        out.put_slice(b"null");
    }
}

/// Writes a JSON string. Most blocks of most texts need no escape and are copied as they are.
pub(crate) fn string(out: &mut BytesMut, text: &str) {
    out.reserve(text.len() + text.len() / 4 + 2);
    out.put_u8(b'"');
    for block in text.as_bytes().chunks(BLOCK) {
        // Written so that the compiler looks at many bytes at once.
        let odd = |&byte: &u8| u8::from(byte < 0x20) | u8::from(byte == b'"' || byte == b'\\');
        match block.iter().map(odd).sum() {
            0 => out.put_slice(block),
            odd => escape(out, block, odd),
        }
    }
    out.put_u8(b'"');
}

/// Writes a block with `odd` bytes to escape.
fn escape(out: &mut BytesMut, block: &[u8], odd: u8) {
    let mut room = [0; BLOCK * "\\u0000".len()];
    let mut end = 0;
    let mut rest = block;
    // Few of them stand far apart: what is between goes word by word.
    while odd <= FEW
        && let Some((word, after)) = rest.split_first_chunk::<WORD>()
    {
        room[end..end + WORD].copy_from_slice(word);
        let clean = first_odd(u64::from_le_bytes(*word));
        end += clean;
        if let Some(&byte) = word.get(clean) {
            end += escape_byte(byte, &mut room[end..]);
            rest = &rest[clean + 1..];
        } else {
            rest = after;
        }
    }
    for &byte in rest {
        end += escape_byte(byte, &mut room[end..]);
    }
    out.put_slice(&room[..end]);
}

/// How many bytes of a word, lowest first, stand for themselves before the first that does not.
fn first_odd(word: u64) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    // The highest bit of each byte below `least`; a borrow can spoil only what is above the first.
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & (ONES * 0x80);
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let odd = below(word, 0x20) | is(b'"') | is(b'\\');
    odd.trailing_zeros() as usize / 8
}

/// Writes one byte, escaped if need be, and returns how many bytes that took.
fn escape_byte(byte: u8, room: &mut [u8]) -> usize {
    let escape = ESCAPES[usize::from(byte)];
    if escape == b'u' {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
        let escaped = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)];
        room[..escaped.len()].copy_from_slice(&escaped);
        return escaped.len();
    }
    // Without a branch: whether a byte of output needs an escape cannot be predicted.
    let plain = usize::from(escape == 0);
    room[0] = b'\\';
    room[1 - plain] = if escape == 0 { byte } else { escape };
    2 - plain
}

fn base64(out: &mut BytesMut, data: &[u8]) {
    let start = out.len();
    out.resize(start + data.len().div_ceil(3) * 4, 0);
    // The space is exactly what the encoding needs, so this cannot fail.
    let written = STANDARD.encode_slice(data, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    // Writing to a growing buffer cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use skerry_api::StreamEvent;

    use super::*;

    fn written(data: &[u8]) -> StreamEvent {
        let mut out = BytesMut::new();
        let event = ExecEvent {
            seq: 7,
            at: jiff::Timestamp::UNIX_EPOCH,
            body: ExecEventBody::Stdout(Bytes::copy_from_slice(data)),
        };
        exec_event(&mut out, 7, None, &event);
        assert!(!out.contains(&b'\n'), "one line");
        serde_json::from_slice(&out).unwrap()
    }

    proptest! {
        #[test]
        fn strings_are_what_serde_reads(text: String) {
            let mut out = BytesMut::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_mix_of_escapes_is_what_serde_reads(text in "[a-dä\\x00-\\x22\\x5b-\\x5d]{0,200}") {
            let mut out = BytesMut::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn text_cut_anywhere_comes_back_whole(text in "\\PC{1,40}", cuts in prop::collection::vec(1usize..8, 0..20)) {
            let mut rest = text.as_bytes();
            let mut back = Vec::new();
            for size in cuts.into_iter().chain(std::iter::repeat(16)) {
                let (chunk, tail) = rest.split_at(size.min(rest.len()));
                let event = written(chunk);
                match (event.data, event.data_base64) {
                    (Some(text), None) => back.extend(text.into_bytes()),
                    (None, Some(coded)) => back.extend(STANDARD.decode(coded).unwrap()),
                    other => panic!("one of the two, not {other:?}"),
                }
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(back, text.into_bytes());
        }
    }
}
