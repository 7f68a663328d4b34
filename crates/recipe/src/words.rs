//! Words of an instruction, as a Dockerfile quotes them.

use crate::text::{Text, TextError};

/// Splits at white space outside quotes. Quotes are taken away, and what stands in single ones is plain.
pub(crate) fn words(line: &str) -> Result<Vec<Text>, WordError> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, used) = word(rest, false)?;
        found.push(word);
        rest = rest[used..].trim_start();
    }
    Ok(found)
}

/// The whole line as one word.
pub(crate) fn whole(line: &str) -> Result<Text, WordError> {
    word(line.trim(), true).map(|(word, _)| word)
}

/// Why words cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordError {
    #[error("a quote {0} is not closed")]
    Quote(char),
    #[error(transparent)]
    Text(#[from] TextError),
}

/// Reads one word, and says how many bytes it was.
fn word(line: &str, has_spaces: bool) -> Result<(Text, usize), WordError> {
    let mut word = Text::default();
    let mut quote = None;
    let mut at = 0;
    while let Some(char) = line[at..].chars().next() {
        let rest = &line[at..];
        at += match (char, quote) {
            (_, None) if char.is_whitespace() && !has_spaces => break,
            ('"' | '\'', None) => {
                quote = Some(char);
                1
            }
            (_, Some(open)) if char == open => {
                quote = None;
                1
            }
            ('\\', None | Some('"')) => {
                let next = rest[1..].chars().next();
                // Within double quotes it stands for itself unless it changes something.
                let is_taken = quote.is_none() || matches!(next, Some('"' | '$' | '\\'));
                if let Some(next) = next.filter(|_| is_taken) {
                    word.push_plain(next.encode_utf8(&mut [0; 4]));
                    1 + next.len_utf8()
                } else {
                    word.push_plain("\\");
                    1
                }
            }
            ('$', None | Some('"')) => {
                let (variable, used) = Text::variable(rest)?;
                word.push(variable);
                used
            }
            _ => {
                word.push_plain(char.encode_utf8(&mut [0; 4]));
                char.len_utf8()
            }
        };
    }
    match quote {
        Some(open) => Err(WordError::Quote(open)),
        None => Ok((word, at)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Vec<String> {
        let words = words(line).unwrap();
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(
            read(r#"a=b  c="d e" f='$g "h' i\ j"#),
            ["a=b", "c=d e", r#"f=\$g "h"#, "i j"]
        );
        assert_eq!(
            read(r#""a\n\"$X" '\n' \$X ${Y:-a b} '' "#),
            [r#"a\\n"${X}"#, r"\\n", r"\$X", "${Y:-a b}", ""]
        );
        assert_eq!(
            whole(r#" a "b  c" $D "#).unwrap().to_string(),
            "a b  c ${D}"
        );
        for open in ["'a", "\"a", "${a"] {
            assert!(words(open).is_err(), "{open}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_itself(word: String) {
            let quoted = format!("'{}'", word.replace('\'', r"'\''"));
            let read = words(&quoted).unwrap();
            prop_assert_eq!(&read[..], &[Text::plain(word)]);
        }

        #[test]
        fn nothing_makes_it_panic(line: String) {
            let _read = words(&line);
        }
    }
}
