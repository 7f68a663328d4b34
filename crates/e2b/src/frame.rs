//! Connect's envelopes: one byte of flags, four of length, and a message. Pure: bytes in, messages out.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest message that is taken.
pub const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Flags of the envelope that ends an answer.
const END: u8 = 2;
/// Bytes before a message.
pub const HEAD: usize = 5;

/// Why bytes are no envelope of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It says that it is longer than [`MOST_BYTES`].
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// It is compressed, or of a kind that only an answer has.
    #[error("an envelope with flags {0} is not taken")]
    Flags(u8),
}

/// Takes the first whole message from what has come so far; `None`: not all of it is there.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some((&[flags, a, b, c, d], _)) = buffer.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    if flags != 0 {
        return Err(FrameError::Flags(flags));
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MOST_BYTES {
        return Err(FrameError::TooLarge(length));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Appends a message that `write` appends.
pub fn message(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    envelope(out, 0, write);
}

/// Appends the end of an answer.
pub fn end(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    envelope(out, END, write);
}

fn envelope(out: &mut BytesMut, flags: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(flags);
    let at = out.len();
    out.put_u32(0);
    write(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrapped(messages: &[Vec<u8>]) -> BytesMut {
        let mut out = BytesMut::new();
        for data in messages {
            message(&mut out, |out| out.put_slice(data));
        }
        out
    }

    #[test]
    fn an_envelope_to_the_byte() {
        let mut out = wrapped(&[b"{}".to_vec()]);
        end(&mut out, |out| out.put_slice(b"{}"));
        assert_eq!(&out[..], b"\0\0\0\0\x02{}\x02\0\0\0\x02{}");
    }

    #[test]
    fn what_is_too_large_or_compressed_is_refused_at_its_head() {
        let most = u32::try_from(MOST_BYTES).unwrap();
        let head = |flags: u8, length: u32| {
            let mut head = BytesMut::new();
            head.put_u8(flags);
            head.put_u32(length);
            decode(&mut head)
        };
        assert_eq!(head(0, most), Ok(None));
        assert_eq!(head(0, most + 1), Err(FrameError::TooLarge(MOST_BYTES + 1)));
        for flags in [1, 2, 3, 0x80] {
            assert_eq!(head(flags, 0), Err(FrameError::Flags(flags)));
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in prop::collection::vec(1_usize..200, 1..20),
        ) {
            let mut wire = wrapped(&messages);
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for cut in cuts.iter().cycle() {
                if wire.is_empty() {
                    break;
                }
                buffer.unsplit(wire.split_to((*cut).min(wire.len())));
                while let Some(data) = decode(&mut buffer).unwrap() {
                    seen.push(data.to_vec());
                }
            }
            prop_assert_eq!(seen, messages);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_at_all_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut left = buffer.len();
            while let Ok(Some(data)) = decode(&mut buffer) {
                prop_assert_eq!(left, buffer.len() + data.len() + HEAD);
                left = buffer.len();
            }
        }
    }
}
