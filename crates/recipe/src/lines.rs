//! A Dockerfile's instructions: lines put together where a `\` ends one, without comments.

use crate::error::ParseError;

const MAX_SHOWN: usize = 160;

/// An instruction that stands on one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins, from 1.
    pub(crate) number: u32,
    /// Its first word, in capitals.
    pub(crate) name: String,
    /// What follows, on one line.
    pub(crate) rest: String,
}

impl Line {
    /// On one short line, for people.
    pub(crate) fn shown(&self) -> String {
        let words: Vec<&str> = self.rest.split_whitespace().collect();
        let whole = format!("{} {}", self.name, words.join(" "));
        match whole.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{}…", &whole[..end]),
            None => whole,
        }
    }
}

/// All of them.
pub(crate) fn lines(file: &str) -> Result<Vec<Line>, ParseError> {
    let mut found = Vec::new();
    let mut numbered = (1u32..).zip(file.lines());
    while let Some((number, first)) = numbered.next() {
        let written = first.trim();
        if let Some(comment) = written.strip_prefix('#') {
            directive(number, comment, found.is_empty())?;
            continue;
        }
        if written.is_empty() {
            continue;
        }
        let mut whole = String::new();
        let mut part = first;
        // An empty line or a comment does not end what goes on.
        while let Some(goes_on) = part.trim_end().strip_suffix('\\') {
            whole.push_str(goes_on);
            let is_part = |(_, line): &(u32, &str)| !is_skipped(line);
            match numbered.by_ref().find(is_part) {
                Some((_, next)) => part = next,
                None => part = "",
            }
        }
        whole.push_str(part);
        let whole = whole.trim();
        let (name, rest) = whole.split_once(char::is_whitespace).unwrap_or((whole, ""));
        found.push(Line {
            number,
            name: name.to_ascii_uppercase(),
            rest: rest.trim().to_owned(),
        });
    }
    Ok(found)
}

fn is_skipped(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// Of the directives that stand before everything else, one changes how a file is read.
fn directive(number: u32, comment: &str, is_first: bool) -> Result<(), ParseError> {
    let Some((name, value)) = comment.split_once('=') else {
        return Ok(());
    };
    let is_other = name.trim().eq_ignore_ascii_case("escape") && value.trim() != "\\";
    if is_first && is_other {
        return Err(ParseError::new(
            number,
            "only `\\` can be the escape character",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Vec<(u32, String, String)> {
        let lines = lines(file).unwrap().into_iter();
        lines.map(|l| (l.number, l.name, l.rest)).collect()
    }

    #[test]
    fn lines_are_put_together() {
        let file = "# syntax=x\nfrom  a \n\n run one \\\n  # why\n\n  && two \\  \n&& three\\\nfour\nENV\nRUN x \\";
        assert_eq!(
            read(file),
            [
                (2, "FROM".into(), "a".into()),
                (4, "RUN".into(), "one   && two && threefour".into()),
                (10, "ENV".into(), String::new()),
                (11, "RUN".into(), "x".into()),
            ]
        );
    }

    #[test]
    fn another_escape_character_is_refused() {
        assert_eq!(lines("# escape=`\nFROM a").unwrap_err().line, 1);
        assert!(lines("# escape=\\\nFROM a\n# escape=`").is_ok());
    }
}
