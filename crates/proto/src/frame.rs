//! Frames on the agent's byte stream: a little-endian `u32` length, then that many bytes of one protobuf message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::agent::{FromAgent, bounds};

/// The largest message either side accepts. Bulk data travels in chunks of at most [`CHUNK_BYTES`].
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// The largest piece of output or file data in one message.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Why bytes are not a frame. The stream cannot go on after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Announced longer than [`MAX_FRAME_BYTES`].
    #[error("frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLong(usize),
    /// A list in it has more elements than this.
    #[error("frame has a list of more than {0} elements")]
    TooMany(usize),
    /// Not the expected message.
    #[error("frame does not decode: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Appends one message to `out`.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) {
    let len = message.encoded_len();
    debug_assert!(len <= MAX_FRAME_BYTES, "a sender chunks what is large");
    out.reserve(4 + len);
    out.put_u32_le(len as u32);
    message.encode_raw(out);
}

/// Takes one whole message off the front of `input`; `None` if more bytes are needed.
pub fn decode<M: Message + Default>(input: &mut BytesMut) -> Result<Option<M>, FrameError> {
    Ok(take(input)?.map(M::decode).transpose()?)
}

/// The same for a message of an agent, which takes no more memory than a few times the length of its frame.
pub fn decode_from_agent(input: &mut BytesMut) -> Result<Option<FromAgent>, FrameError> {
    let Some(body) = take(input)? else {
        return Ok(None);
    };
    bounds::check(&body)?;
    Ok(Some(FromAgent::decode(body)?))
}

/// Takes the bytes of one whole message off the front.
fn take(input: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some(header) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*header) as usize;
    if len > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(len));
    }
    if input.len() < 4 + len {
        input.reserve(4 + len - input.len());
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(len).freeze()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::{ExecOutput, from_agent};

    fn output(seq: u64, data: Vec<u8>) -> FromAgent {
        FromAgent {
            body: Some(from_agent::Body::ExecOutput(ExecOutput {
                exec_id: vec![7; 16].into(),
                seq,
                stream: 1,
                data: data.into(),
            })),
        }
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_messages(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
            cut in 1usize..64,
        ) {
            let sent: Vec<FromAgent> = payloads.into_iter().enumerate()
                .map(|(i, p)| output(i as u64, p)).collect();
            let mut wire = BytesMut::new();
            for message in &sent {
                encode(message, &mut wire);
            }
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(message) = decode::<FromAgent>(&mut buffer).unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode_from_agent(&mut buffer) {}
        }
    }

    #[test]
    fn an_announced_giant_is_refused_before_it_is_read() {
        let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert_eq!(
            decode::<FromAgent>(&mut buffer),
            Err(FrameError::TooLong(u32::MAX as usize))
        );
    }
}
