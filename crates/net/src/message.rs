//! As much of a DNS message as a forwarder must understand.

const HEADER: usize = 12;
const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;
/// In the third byte: this is a response, not a question.
const IS_RESPONSE: u8 = 0x80;
/// In the third byte: the kind of question and "recursion desired", which answers repeat.
const REPEATED: u8 = 0x79;
/// In the fourth byte: "recursion available".
const RECURSION: u8 = 0x80;

/// A well-formed question.
#[derive(Debug)]
pub(crate) struct Question {
    bytes: Vec<u8>,
    /// Where the name, type and class that are asked for end.
    end: usize,
}

/// What is no question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    header: Option<[u8; HEADER]>,
}

impl Question {
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let header = bytes.first_chunk::<HEADER>().copied();
        // Answering an answer could go on for ever.
        let header = header.filter(|header| header[2] & IS_RESPONSE == 0);
        match header {
            Some([_, _, _, _, 0, 1, ..]) => match question_end(&bytes) {
                Some(end) => Ok(Self { bytes, end }),
                None => Err(Malformed { header }),
            },
            _ => Err(Malformed { header }),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether these bytes answer it.
    pub(crate) fn is_answered_by(&self, answer: &[u8]) -> bool {
        answer.len() >= HEADER && answer[..2] == self.bytes[..2] && answer[2] & IS_RESPONSE != 0
    }

    /// The answer when no name server has one.
    pub(crate) fn failure(&self) -> Vec<u8> {
        let mut answer = self.bytes[..self.end].to_vec();
        answer[2] = IS_RESPONSE | (answer[2] & REPEATED);
        answer[3] = RECURSION | SERVER_FAILURE;
        answer[6..HEADER].fill(0);
        answer
    }
}

impl Malformed {
    /// The answer, if it was enough of a question to have one.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        let mut answer = self.header?;
        answer[2] = IS_RESPONSE | (answer[2] & REPEATED);
        answer[3] = RECURSION | FORMAT_ERROR;
        answer[4..].fill(0);
        Some(answer.to_vec())
    }
}

/// Walks over the labels of the name asked for; a question has no compressed ones.
fn question_end(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *bytes.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 1 + 4;
    (end <= bytes.len()).then_some(end)
}

/// A message as it goes over a stream; cut to the longest possible.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&message[..usize::from(length)]);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question() -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(b"\x07example\x03org\0\0\x01\0\x01");
        bytes.extend_from_slice(b"\0\0\x29\x10\0\0\0\0\0\0\0");
        bytes
    }

    #[test]
    fn a_failure_repeats_the_question_and_drops_the_rest() {
        let parsed = Question::parse(question()).unwrap();
        let failure = parsed.failure();
        assert!(parsed.is_answered_by(&failure));
        assert_eq!(
            failure[..12],
            [0xab, 0xcd, 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(failure[12..], question()[12..29]);
    }

    #[test]
    fn an_answer_is_not_answered_and_a_broken_question_is() {
        let mut response = question();
        response[2] |= IS_RESPONSE;
        assert_eq!(Question::parse(response).unwrap_err().answer(), None);
        let mut compressed = question();
        compressed[12] = 0xc0;
        let answer = Question::parse(compressed).unwrap_err().answer().unwrap();
        assert_eq!(answer[3] & 0xf, FORMAT_ERROR);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0_usize..40) {
            let mut cut_question = question();
            cut_question.truncate(cut);
            for bytes in [bytes, cut_question] {
                match Question::parse(bytes) {
                    Ok(question) => prop_assert!(question.is_answered_by(&question.failure())),
                    Err(malformed) => prop_assert!(malformed.answer().is_none_or(|a| a.len() == HEADER)),
                }
            }
        }
    }
}
