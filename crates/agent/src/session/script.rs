//! The text that makes a shell run one script and say how it went, so that neither can be mistaken for the other.
//!
//! The shell reads what to do from its stdin. A script is an argument of `eval` (with `command`, so that a syntax error ends the script
//! and not the shell), which sees the session's stdin instead of ours and not the status pipe. The code then goes to the
//! status pipe behind a number drawn for this one script, which is written after it: nothing that the script starts can know it.

/// Where the shell finds the status pipe.
pub(super) const STATUS_FD: i32 = 3;
/// Where the shell finds the stdin of scripts.
pub(super) const STDIN_FD: i32 = 5;

/// Longer than any line that we asked for.
const MAX_LINE_BYTES: usize = 256;

/// What to write to the shell for one script.
pub(super) fn order(script: &[u8], nonce: u64) -> Vec<u8> {
    let mut order = b"command eval '".to_vec();
    for byte in script {
        match byte {
            b'\'' => order.extend_from_slice(b"'\\''"),
            byte => order.push(*byte),
        }
    }
    order.extend_from_slice(
        format!(
            "' 0<&{STDIN_FD} {STDIN_FD}<&- {STATUS_FD}>&-\n\
             {{ command echo {nonce:016x} \"$?\" >&{STATUS_FD}; }} 2>&-\n"
        )
        .as_bytes(),
    );
    order
}

/// Lines of the status pipe; whatever else may stand there is passed over.
#[derive(Debug, Default)]
pub(super) struct Status {
    line: Vec<u8>,
}

impl Status {
    /// Takes bytes from the pipe; the code, once the line with this number is whole.
    pub(super) fn push(&mut self, bytes: &[u8], nonce: u64) -> Option<i32> {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                if let Some(code) = code(&line, nonce) {
                    return Some(code);
                }
            } else if self.line.len() < MAX_LINE_BYTES {
                self.line.push(*byte);
            }
        }
        None
    }
}

fn code(line: &[u8], nonce: u64) -> Option<i32> {
    let (number, code) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if number != format!("{nonce:016x}") {
        return None;
    }
    code.parse().ok().filter(|code| (0..=255).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        let order = String::from_utf8(order(b"echo 'a'; '\n", 1)).unwrap();
        assert!(order.starts_with("command eval 'echo '\\''a'\\''; '\\''\n' 0<&5"));
    }

    #[test]
    fn only_the_line_with_the_number_counts() {
        let mut status = Status::default();
        assert_eq!(
            status.push(b"0\n0000000000000001 0\n0000000000000002 300\n", 2),
            None
        );
        assert_eq!(status.push(&[b'x'; 1000], 2), None);
        assert_eq!(status.push(b"\n00000000000000", 2), None);
        assert_eq!(status.push(b"02 7\n", 2), Some(7));
    }
}
