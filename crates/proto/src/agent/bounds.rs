//! How much memory the words of an agent may take: an element of a list takes up to a hundred times the bytes that announce it.

use bytes::Buf;
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::agent::MAX_ATTRIBUTES;
use crate::frame::FrameError;

/// Every list that an agent may send: where it is in [`super::FromAgent`], as the numbers of the fields that lead to it, and how many elements it has
/// at most. What an agent of ours lists is far less.
const LISTS: [(&[u32], usize); 6] = [
    // Hello: sessions.
    (&[1, 3], 128),
    // Response: entries.
    (&[8, 4, 1], 1000),
    // Response: entry: attributes.
    (&[8, 3, 12], MAX_ATTRIBUTES),
    // Response: entries: attributes, of all together.
    (&[8, 4, 1, 12], 1000 * MAX_ATTRIBUTES),
    // Response: processes.
    (&[8, 6, 1], 4096),
    // Response: processes: argv, of all together.
    (&[8, 6, 1, 3], 140_000),
];

/// Refuses a message whose lists are too long.
pub(crate) fn check(message: &[u8]) -> Result<(), FrameError> {
    for (path, most) in LISTS {
        if count(message, path)? > most {
            return Err(FrameError::TooMany(most));
        }
    }
    Ok(())
}

/// How many elements there are at this path. What is malformed is told by whoever decodes it.
fn count(mut message: &[u8], path: &[u32]) -> Result<usize, DecodeError> {
    let Some((wanted, further)) = path.split_first() else {
        return Ok(1);
    };
    let mut found = 0;
    while message.has_remaining() {
        let (field, wire) = decode_key(&mut message)?;
        if field != *wanted || wire != WireType::LengthDelimited {
            skip_field(wire, field, &mut message, DecodeContext::default())?;
            continue;
        }
        let length = decode_varint(&mut message)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((inner, rest)) = message.split_at_checked(length) else {
            return Ok(found);
        };
        found += count(inner, further)?;
        message = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use crate::agent::from_agent::Body;
    use crate::agent::*;
    use crate::frame::{self, FrameError};

    fn through(body: Body) -> Result<Option<FromAgent>, FrameError> {
        let mut wire = BytesMut::new();
        frame::encode(&FromAgent { body: Some(body) }, &mut wire);
        frame::decode_from_agent(&mut wire)
    }

    fn response(reply: Reply) -> Body {
        Body::Response(Response {
            id: 1,
            reply: Some(reply),
        })
    }

    fn entries(count: usize) -> Body {
        let entries = vec![Entry::default(); count];
        response(Reply::Entries(Entries {
            entries,
            more: false,
        }))
    }

    fn processes(count: usize, args: usize) -> Body {
        let process = Process {
            argv: vec![bytes::Bytes::new(); args],
            ..Process::default()
        };
        let processes = vec![process; count];
        response(Reply::Processes(Processes { processes }))
    }

    fn sessions(count: usize) -> Body {
        Body::Hello(AgentHello {
            sessions: vec![bytes::Bytes::new(); count],
            ..AgentHello::default()
        })
    }

    #[test]
    fn lists_are_as_long_as_they_may_be_and_no_longer() {
        for fine in [entries(1000), processes(4096, 30), sessions(128)] {
            let whole = FromAgent {
                body: Some(fine.clone()),
            };
            assert_eq!(through(fine), Ok(Some(whole)));
        }
        for long in [
            entries(1001),
            entries(400_000),
            processes(4097, 0),
            processes(1000, 300),
            sessions(129),
        ] {
            assert!(matches!(through(long), Err(FrameError::TooMany(_))));
        }
    }
}
