//! Text with variables in it: `${PATH}`, `$HOME`, `${PORT:-80}`, `${DEBUG:+-v}`. `\` takes the next character as it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Defaults within defaults are read this deep.
const MAX_DEPTH: usize = 8;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Variable {
        name: String,
        otherwise: Option<(Operator, Text)>,
    },
}

/// What stands in for a variable, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// `:-`, where it is empty or not set.
    Default,
    /// `:+`, where it is not empty.
    Alternative,
}

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// `${` without its end.
    #[error("`${{` has no `}}`")]
    Open,
    /// A name that is none.
    #[error("`${{{0}}}` names no variable: letters, digits and `_`, a digit not first")]
    Name(String),
    /// `${NAME?…}` and the like.
    #[error("`${{{0}…}}`: of what may follow a name only `:-` and `:+` are known")]
    Operator(String),
    /// Too deep.
    #[error("variables stand in each other more than {MAX_DEPTH} deep")]
    Depth,
}

impl Text {
    /// A text without variables.
    pub fn plain(text: impl Into<String>) -> Self {
        let mut made = Self::default();
        made.push_plain(&text.into());
        made
    }

    /// Reads `$NAME` or `${…}` at the start of `rest`; gives the text and how many bytes it was. Any other `$` is a plain one.
    pub(crate) fn variable(rest: &str) -> Result<(Self, usize), TextError> {
        variable(rest, 0).map(|(part, used)| (Self(vec![part]), used))
    }

    pub(crate) fn push_plain(&mut self, more: &str) {
        match self.0.last_mut() {
            _ if more.is_empty() => {}
            Some(Part::Plain(text)) => text.push_str(more),
            _ => self.0.push(Part::Plain(more.to_owned())),
        }
    }

    pub(crate) fn push(&mut self, more: Self) {
        for part in more.0 {
            match part {
                Part::Plain(text) => self.push_plain(&text),
                variable @ Part::Variable { .. } => self.0.push(variable),
            }
        }
    }

    /// Puts in the values of those variables that `value` knows; the others stay.
    #[must_use]
    pub fn bind(&self, value: &impl Fn(&str) -> Option<String>) -> Self {
        let mut bound = Self::default();
        for part in &self.0 {
            bound.push(part.bind(value));
        }
        bound
    }

    /// Puts in every variable; one that is not set is empty.
    pub fn resolve(&self, value: &impl Fn(&str) -> Option<String>) -> String {
        let all = |name: &str| Some(value(name).unwrap_or_default());
        match self.bind(&all).0.into_iter().next() {
            Some(Part::Plain(text)) => text,
            _ => String::new(),
        }
    }

    /// The text, if no variable is in it.
    pub fn as_plain(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Part::Plain(text)] => Some(text),
            _ => None,
        }
    }
}

impl Part {
    fn bind(&self, value: &impl Fn(&str) -> Option<String>) -> Text {
        let Self::Variable { name, otherwise } = self else {
            return Text(vec![self.clone()]);
        };
        let known = value(name);
        let is_there = known.as_ref().map(|known| !known.is_empty());
        match (is_there, otherwise) {
            (Some(true), Some((Operator::Alternative, other)))
            | (Some(false), Some((Operator::Default, other))) => other.bind(value),
            (Some(false), Some((Operator::Alternative, _))) => Text::default(),
            (Some(_), _) => Text::plain(known.unwrap_or_default()),
            (None, otherwise) => Text(vec![Self::Variable {
                name: name.clone(),
                otherwise: otherwise
                    .as_ref()
                    .map(|(op, other)| (*op, other.bind(value))),
            }]),
        }
    }
}

impl FromStr for Text {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        read(text, 0)
    }
}

fn read(text: &str, depth: usize) -> Result<Text, TextError> {
    let mut made = Text::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let used = match first {
            '\\' => {
                let taken = rest[1..].chars().next().map_or(1, char::len_utf8);
                let plain = if rest.len() == 1 {
                    rest
                } else {
                    &rest[1..=taken]
                };
                made.push_plain(plain);
                (1 + taken).min(rest.len())
            }
            '$' => {
                let (part, used) = variable(rest, depth)?;
                made.push(Text(vec![part]));
                used
            }
            _ => {
                let end = rest.find(['\\', '$']).unwrap_or(rest.len());
                made.push_plain(&rest[..end]);
                end
            }
        };
        rest = &rest[used..];
    }
    Ok(made)
}

/// `rest` begins with a `$`.
fn variable(rest: &str, depth: usize) -> Result<(Part, usize), TextError> {
    let after = &rest[1..];
    if let Some(inner) = after.strip_prefix('{') {
        let end = closing(inner).ok_or(TextError::Open)?;
        return Ok((braced(&inner[..end], depth)?, end + 3));
    }
    let name = name_at(after);
    if name.is_empty() {
        return Ok((Part::Plain("$".to_owned()), 1));
    }
    let part = Part::Variable {
        name: name.to_owned(),
        otherwise: None,
    };
    Ok((part, 1 + name.len()))
}

fn braced(inner: &str, depth: usize) -> Result<Part, TextError> {
    if depth == MAX_DEPTH {
        return Err(TextError::Depth);
    }
    let name = name_at(inner);
    let (operator, other) = match &inner[name.len()..] {
        _ if name.is_empty() => return Err(TextError::Name(inner.chars().take(80).collect())),
        "" => (None, ""),
        rest => match rest.split_at_checked(2) {
            Some((":-", other)) => (Some(Operator::Default), other),
            Some((":+", other)) => (Some(Operator::Alternative), other),
            _ => return Err(TextError::Operator(name.to_owned())),
        },
    };
    let other = read(other, depth + 1)?;
    Ok(Part::Variable {
        name: name.to_owned(),
        otherwise: operator.map(|operator| (operator, other)),
    })
}

fn name_at(text: &str) -> &str {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_more = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.starts_with(is_first) {
        return "";
    }
    &text[..text.find(|c| !is_more(c)).unwrap_or(text.len())]
}

/// Where the brace that is open ends.
fn closing(inner: &str) -> Option<usize> {
    let mut open = 0;
    let mut chars = inner.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '$' if inner[at + 1..].starts_with('{') => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Plain(text) => {
                    for char in text.chars() {
                        if matches!(char, '\\' | '$' | '}') {
                            f.write_str("\\")?;
                        }
                        write!(f, "{char}")?;
                    }
                }
                Part::Variable { name, otherwise } => match otherwise {
                    None => write!(f, "${{{name}}}")?,
                    Some((Operator::Default, other)) => write!(f, "${{{name}:-{other}}}")?,
                    Some((Operator::Alternative, other)) => write!(f, "${{{name}:+{other}}}")?,
                },
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("$A".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn every_form_of_a_variable() {
        for (text, resolved) in [
            ("x$A-${A}y", "xone-oney"),
            ("${B}|$B|", "||"),
            ("${A:-d} ${EMPTY:-d} ${B:-d$A}", "one d done"),
            ("${A:+d} ${EMPTY:+d}${B:+d}", "d "),
            ("${B:-${C:-${A}}}", "one"),
            (r"\$A \\ $ 5$ $1", r"$A \ $ 5$ $1"),
            ("$DOLLAR", "$A"),
            (r"${B:-a\}b}", "a}b"),
        ] {
            let text: Text = text.parse().unwrap();
            assert_eq!(text.resolve(&known), resolved);
        }
    }

    #[test]
    fn what_is_not_known_stays() {
        let text: Text = "$A:$PATH ${PATH:-$A} ${A:-$PATH}".parse().unwrap();
        let bound = text.bind(&known);
        assert_eq!(bound.to_string(), "one:${PATH} ${PATH:-one} one");
        assert_eq!(bound.as_plain(), None);
        assert_eq!(
            text.bind(&|name| (name == "PATH").then(|| "$A".into()))
                .to_string(),
            r"${A}:\$A \$A ${A:-\$A}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let deep = "${A:-".repeat(20) + &"}".repeat(20);
        for text in [
            "${A", "${}", "${1}", "${A?x}", "${A:=x}", "${A-é}", "${A:", &deep,
        ] {
            assert!(text.parse::<Text>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn plain_text_stays_itself(text: String) {
            let plain = Text::plain(text.clone());
            prop_assert_eq!(plain.resolve(&known), &*text);
            prop_assert_eq!(plain.to_string().parse(), Ok(plain));
        }

        #[test]
        fn what_is_read_is_written_so_that_it_is_read_again(text in "[a$\\\\{}:+A é-]{0,24}") {
            if let Ok(read) = text.parse::<Text>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
