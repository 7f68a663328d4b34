//! The keys that leave a terminal without ending what runs on it.

/// Finds a sequence of keys in what is typed.
#[derive(Debug, Clone)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were typed just now.
    typed: usize,
}

impl DetachKeys {
    /// `ctrl-p,ctrl-q`, or single characters between commas.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let keys: Result<Vec<u8>, String> = text.split(',').map(key).collect();
        Ok(Self {
            keys: keys?,
            typed: 0,
        })
    }

    /// What of the typed bytes goes on, and whether the keys were among them. Keys that may yet turn out to be these are held back.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(typed.len() + self.typed);
        for &byte in typed {
            if byte != self.keys[self.typed] {
                on.extend_from_slice(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if byte != self.keys[self.typed] {
                on.push(byte);
                continue;
            }
            self.typed += 1;
            if self.typed == self.keys.len() {
                self.typed = 0;
                return (on, true);
            }
        }
        (on, false)
    }
}

fn key(text: &str) -> Result<u8, String> {
    let wrong = || format!("`{text}` is no key: write ctrl-a to ctrl-z, or one character");
    let byte = |text: &str| match text.as_bytes() {
        [byte] if byte.is_ascii_graphic() => Some(*byte),
        _ => None,
    };
    match text.strip_prefix("ctrl-") {
        Some(letter) => byte(letter)
            .filter(|b| b.is_ascii_lowercase() || b"[]\\^_@".contains(b))
            .map(|b| b & 0x1f)
            .ok_or_else(wrong),
        None => byte(text).ok_or_else(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_found_and_all_else_goes_on() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(
            keys.pass(b"c"),
            (b"\x10c".to_vec(), false),
            "held back, then let go"
        );
        assert_eq!(keys.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.pass(b"\x11rest"), (Vec::new(), true));
    }

    #[test]
    fn keys_are_read_or_refused() {
        assert_eq!(DetachKeys::parse("ctrl-],d").unwrap().keys, [0x1d, b'd']);
        for wrong in ["", "ctrl-", "ctrl-P", "ab", "ctrl-p,", "ä"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong}");
        }
    }
}
