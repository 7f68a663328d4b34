//! Envelopes of the Connect protocol, from bytes that anybody may send.
//!
//! Only the one file is built, not what it is a part of.
#![no_main]

use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/e2b/src/frame.rs"]
mod frame;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let cut = usize::from(cut).min(bytes.len());
    let whole = messages(&[bytes]);
    assert_eq!(
        whole,
        messages(&[&bytes[..cut], &bytes[cut..]]),
        "cuts change nothing"
    );
    let mut again = BytesMut::new();
    for message in &whole {
        frame::message(&mut again, |out| out.put_slice(message));
    }
    assert!(bytes.starts_with(&again), "nothing is made up");
});

/// All that can be read from pieces that come one after another.
fn messages(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Ok(Some(message)) = frame::decode(&mut buffer) {
            found.push(message.to_vec());
        }
    }
    found
}
