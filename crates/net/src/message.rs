//! As much of a DNS message as a forwarder must understand.

use std::net::Ipv4Addr;

const HEADER: usize = 12;
const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;
/// In the third byte: this is a response, not a question.
const IS_RESPONSE: u8 = 0x80;
/// In the third byte: what is asked for. 0 is a lookup; others change a zone, for a server that trusts whoever has this host's address.
const OPCODE: u8 = 0x78;
/// In the third byte: the kind of question and "recursion desired", which answers repeat.
const REPEATED: u8 = 0x79;
/// In the fourth byte: "recursion available".
const RECURSION: u8 = 0x80;

/// Kinds of records.
const A: u16 = 1;
const AAAA: u16 = 28;
const SERVICE: [u16; 2] = [64, 65];
/// Keys of servers, and whole zones, which are between them alone.
const TRANSFER: std::ops::RangeInclusive<u16> = 249..=252;
const INTERNET: u16 = 1;
/// Addresses of one answer that count.
const MAX_ADDRESSES: usize = 64;

/// A well-formed question.
#[derive(Debug)]
pub(crate) struct Question {
    bytes: Vec<u8>,
    /// Where the name, type and class that are asked for end.
    end: usize,
}

/// What is no question that a host has for a resolver.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    header: Option<[u8; HEADER]>,
    code: u8,
}

impl Question {
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Unfit> {
        let header = bytes.first_chunk::<HEADER>().copied();
        // Answering an answer could go on for ever.
        let header = header.filter(|header| header[2] & IS_RESPONSE == 0);
        let unfit = |code| Unfit { header, code };
        let question = match header {
            Some(header) if header[2] & OPCODE != 0 => return Err(unfit(NOT_IMPLEMENTED)),
            Some([_, _, _, _, 0, 1, ..]) => match question_end(&bytes) {
                Some(end) => Self { bytes, end },
                None => return Err(unfit(FORMAT_ERROR)),
            },
            _ => return Err(unfit(FORMAT_ERROR)),
        };
        if TRANSFER.contains(&question.kind()) {
            return Err(unfit(NOT_IMPLEMENTED));
        }
        Ok(question)
    }

    /// The same question as it goes to a name server. With an id that whoever asked here could choose, he could answer it himself.
    pub(crate) fn under(&self, id: [u8; 2]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&id);
        bytes
    }

    /// The answer for whoever asked, if these bytes answer what was asked under this id.
    pub(crate) fn answer_under(&self, id: [u8; 2], answer: &[u8]) -> Option<Vec<u8>> {
        let mut answer = (answer.starts_with(&id)).then(|| answer.to_vec())?;
        answer[..2].copy_from_slice(&self.bytes[..2]);
        self.is_answered_by(&answer).then_some(answer)
    }

    /// Whether these bytes answer it.
    fn is_answered_by(&self, answer: &[u8]) -> bool {
        answer.len() >= HEADER && answer[..2] == self.bytes[..2] && answer[2] & IS_RESPONSE != 0
    }

    /// The name asked for, in lower case; `None` if no host could have it.
    pub(crate) fn name(&self) -> Option<String> {
        let mut name = String::new();
        let mut at = HEADER;
        while let Some(&length @ 1..) = self.bytes.get(at) {
            let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
            let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            // A dot inside a label would make another name of it.
            if !label.iter().all(is_plain) {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
            at += 1 + usize::from(length);
        }
        Some(name)
    }

    fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[self.end - 4], self.bytes[self.end - 3]])
    }

    /// It is for addresses that sandboxes have no use for; most programs ask for both kinds.
    pub(crate) fn is_for_ipv6(&self) -> bool {
        self.kind() == AAAA
    }

    /// It is for more than addresses: also for keys with which a program hides the name that it connects to.
    pub(crate) fn is_for_service(&self) -> bool {
        SERVICE.contains(&self.kind())
    }

    /// The addresses in an answer to it, each with the seconds for which it may be kept.
    pub(crate) fn addresses(&self, answer: &[u8]) -> Vec<(Ipv4Addr, u32)> {
        let repeats = answer
            .get(HEADER..self.end)
            .is_some_and(|asked| asked.eq_ignore_ascii_case(&self.bytes[HEADER..self.end]));
        if self.kind() != A || !repeats {
            return Vec::new();
        }
        let count = u16::from_be_bytes([answer[6], answer[7]]);
        let mut found = Vec::new();
        let mut rest = &answer[self.end..];
        for _ in 0..count {
            let Some((record, after)) = Record::read(rest) else {
                break;
            };
            if let Some(address) = record.address().filter(|_| found.len() < MAX_ADDRESSES) {
                found.push((address, record.seconds));
            }
            rest = after;
        }
        found
    }

    /// The answer when no name server has one.
    pub(crate) fn failure(&self) -> Vec<u8> {
        self.without_records(SERVER_FAILURE)
    }

    /// The answer when the name is not to be looked up. Some C libraries wait for another one after `REFUSED`; this one all of them take at once.
    pub(crate) fn refusal(&self) -> Vec<u8> {
        self.without_records(NO_SUCH_NAME)
    }

    /// The answer when the name has nothing of this kind.
    pub(crate) fn nothing(&self) -> Vec<u8> {
        self.without_records(NO_ERROR)
    }

    fn without_records(&self, code: u8) -> Vec<u8> {
        let mut answer = self.bytes[..self.end].to_vec();
        answer[2] = IS_RESPONSE | (answer[2] & REPEATED);
        answer[3] = RECURSION | code;
        answer[6..HEADER].fill(0);
        answer
    }
}

/// A record of an answer.
struct Record<'a> {
    kind: u16,
    class: u16,
    seconds: u32,
    data: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first of these bytes, and what comes after it. Whose it is does not matter: all of an answer leads from the name to its addresses.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = bytes
            .get(name_length(bytes)?..)?
            .split_first_chunk::<10>()?;
        let [k0, k1, c0, c1, s0, s1, s2, s3, l0, l1] = *head;
        let (data, after) = rest.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
        let record = Self {
            kind: u16::from_be_bytes([k0, k1]),
            class: u16::from_be_bytes([c0, c1]),
            seconds: u32::from_be_bytes([s0, s1, s2, s3]),
            data,
        };
        Some((record, after))
    }

    fn address(&self) -> Option<Ipv4Addr> {
        let is_address = (self.kind, self.class) == (A, INTERNET);
        let data = <[u8; 4]>::try_from(self.data).ok();
        data.filter(|_| is_address).map(Ipv4Addr::from)
    }
}

/// How many bytes a name takes where it stands, whether it is written out or points elsewhere.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

impl Unfit {
    /// The answer, if it was enough of a question to have one.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        let mut answer = self.header?;
        answer[2] = IS_RESPONSE | (answer[2] & REPEATED);
        answer[3] = RECURSION | self.code;
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

    /// An answer with an alias, written out, and an address below it, which points back.
    fn answer() -> Vec<u8> {
        let mut bytes = question()[..29].to_vec();
        bytes[2] |= IS_RESPONSE;
        bytes[7] = 2;
        bytes.extend_from_slice(b"\x07example\x03org\0\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x0c");
        bytes.extend_from_slice(b"\xc0\x2d\0\x01\0\x01\0\0\x01\x2c\0\x04\xcb\0\x71\x0a");
        bytes
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let parsed = Question::parse(question()).unwrap();
        assert_eq!(parsed.name().as_deref(), Some("example.org"));
        let found = parsed.addresses(&answer());
        assert_eq!(found, [(Ipv4Addr::new(203, 0, 113, 10), 300)]);
        let mut other = answer();
        other[13] = b'x';
        assert_eq!(parsed.addresses(&other), [], "of another question");
        let mut dotted = question();
        dotted[15] = b'.';
        assert_eq!(Question::parse(dotted).unwrap().name(), None);
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

    #[test]
    fn what_is_between_servers_stays_there() {
        let mut update = question();
        update[2] |= 5 << 3;
        let mut transfer = question();
        transfer[26] = 252;
        for between in [update, transfer] {
            let answer = Question::parse(between).unwrap_err().answer().unwrap();
            assert_eq!(answer[3] & 0xf, NOT_IMPLEMENTED);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0_usize..40) {
            let mut cut_question = question();
            cut_question.truncate(cut);
            for bytes in [bytes, cut_question] {
                match Question::parse(bytes) {
                    Ok(question) => {
                        question.name();
                        prop_assert!(question.is_answered_by(&question.refusal()));
                    }
                    Err(unfit) => prop_assert!(unfit.answer().is_none_or(|a| a.len() == HEADER)),
                }
            }
        }

        #[test]
        fn no_answer_makes_it_panic(flips in prop::collection::vec((0_usize..90, any::<u8>()), 0..8), cut in 0_usize..90) {
            let mut bytes = answer();
            for (at, to) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = to;
                }
            }
            bytes.truncate(cut);
            let found = Question::parse(question()).unwrap().addresses(&bytes);
            prop_assert!(found.len() <= 3);
        }
    }
}
