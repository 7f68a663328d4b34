//! Shell patterns for what stands below a directory, as [`crate::agent::TarOut`] takes them.
//!
//! `*` is any text within a name, `?` one character, `[a-z]` or `[!a-z]` one of some or of all others, `**` any number of folders, `\` takes
//! the next character as it is. A pattern without a slash in it means names wherever they stand; with one, whole paths from the top.

/// A list of patterns.
#[derive(Debug, Clone, Default)]
pub struct Globs(Vec<Vec<Part>>);

#[derive(Debug, Clone)]
enum Part {
    /// Any number of folders.
    Deep,
    /// One name.
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text,
    One,
    Char(char),
    Of {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

impl Globs {
    /// Reads patterns. Every text is one; an empty one means nothing.
    pub fn new(patterns: &[String]) -> Self {
        let patterns = patterns.iter().map(|pattern| parts(pattern));
        Self(patterns.filter(|parts| !parts.is_empty()).collect())
    }

    /// Whether one of them means this path, which is relative. Takes time in proportion to both lengths, whatever they say.
    pub fn matches(&self, path: &str) -> bool {
        let names: Vec<Vec<char>> = path.split('/').map(|name| name.chars().collect()).collect();
        self.0.iter().any(|parts| {
            wild(parts, &names, |part| matches!(part, Part::Deep), |part, name| {
                matches!(part, Part::Name(tokens)
                    if wild(tokens, name, |token| *token == Token::Text, |token, found| token.takes(*found)))
            })
        })
    }
}

impl Token {
    fn takes(&self, found: char) -> bool {
        match self {
            Self::Text => false,
            Self::One => true,
            Self::Char(char) => *char == found,
            Self::Of { ranges, negated } => {
                ranges
                    .iter()
                    .any(|(from, to)| (from..=to).contains(&&found))
                    != *negated
            }
        }
    }
}

/// Matches items one by one, where a star takes any number of them: it takes none at first, and one more each time what follows does not fit.
fn wild<P, T>(
    pattern: &[P],
    items: &[T],
    is_star: impl Fn(&P) -> bool,
    takes: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut item) = (0, 0);
    // Behind the last star, and the first item that it has not taken.
    let mut retry: Option<(usize, usize)> = None;
    while item < items.len() {
        match pattern.get(at) {
            Some(one) if is_star(one) => {
                at += 1;
                retry = Some((at, item));
            }
            Some(one) if takes(one, &items[item]) => {
                at += 1;
                item += 1;
            }
            _ => {
                let Some((after, untaken)) = &mut retry else {
                    return false;
                };
                *untaken += 1;
                (at, item) = (*after, *untaken);
            }
        }
    }
    pattern[at..].iter().all(is_star)
}

fn parts(pattern: &str) -> Vec<Part> {
    let trimmed = pattern.trim_end_matches('/');
    let mut parts: Vec<Part> = trimmed
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| match part {
            "**" => Part::Deep,
            name => Part::Name(tokens(name)),
        })
        .collect();
    if !trimmed.contains('/') && !parts.is_empty() {
        parts.insert(0, Part::Deep);
    }
    // All that is in a folder is not the folder.
    if let Some(Part::Deep) = parts.last() {
        parts.push(Part::Name(vec![Token::Text]));
    }
    parts
}

fn tokens(name: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = name.chars();
    while let Some(char) = rest.next() {
        tokens.push(match char {
            '*' => Token::Text,
            '?' => Token::One,
            '\\' => Token::Char(rest.next().unwrap_or('\\')),
            '[' => match set(rest.as_str()) {
                Some((of, after)) => {
                    rest = after.chars();
                    of
                }
                None => Token::Char('['),
            },
            char => Token::Char(char),
        });
    }
    tokens
}

/// What stands between brackets, and what follows them; nothing where they are not closed.
fn set(text: &str) -> Option<(Token, &str)> {
    let inner = text.strip_prefix(['!', '^']);
    let negated = inner.is_some();
    let inner = inner.unwrap_or(text);
    // A bracket at the very start is one of the set.
    let first = inner.chars().next()?.len_utf8();
    let end = first + inner[first..].find(']')?;
    let chars: Vec<char> = inner[..end].chars().collect();
    let mut ranges = Vec::new();
    let mut left = &chars[..];
    loop {
        left = match left {
            [from, '-', to, after @ ..] => {
                ranges.push((*from, *to));
                after
            }
            [one, after @ ..] => {
                ranges.push((*one, *one));
                after
            }
            [] => break,
        };
    }
    Some((Token::Of { ranges, negated }, &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Globs::new(&[pattern.to_owned()]).matches(path)
    }

    #[test]
    fn patterns_mean_what_a_shell_user_expects() {
        let yes = [
            ("*.sh", "run.sh"),
            ("*.sh", "deep/er/run.sh"),
            (".git", "a/.git"),
            ("node_modules/", "a/node_modules"),
            ("/target", "target"),
            ("src/*.o", "src/a.o"),
            ("src/**", "src/a/b"),
            ("**/b/c", "b/c"),
            ("a/**/z", "a/z"),
            ("a/**/z", "a/b/c/z"),
            ("?", "ä"),
            ("[!a-c][]x]", "d]"),
            ("[x", "[x"),
            (r"\*", "*"),
            ("a*b*c", "aXbXbXc"),
        ];
        for (pattern, path) in yes {
            assert!(matches(pattern, path), "{pattern} is {path}");
        }
        let no = [
            ("*.sh", "run.shx"),
            ("*.sh", "a.sh/b"),
            ("/target", "a/target"),
            ("src/*.o", "src/a/b.o"),
            ("src/*.o", "a/src/b.o"),
            ("src/**", "src"),
            ("a/**/z", "a/zz"),
            ("[!a-c]", "b"),
            (r"\*", "x"),
            ("", "a"),
            ("/", "a"),
        ];
        for (pattern, path) in no {
            assert!(!matches(pattern, path), "{pattern} is not {path}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        assert!(!matches(&"*a".repeat(1000), &"a".repeat(100_000)[..999]));
        assert!(!matches(&"**/a/".repeat(500), &"a/".repeat(400)));
    }

    proptest! {
        #[test]
        fn every_text_is_a_pattern_and_escaped_it_is_itself(name in "[^/\0]{1,20}") {
            matches(&name, &name);
            let escaped: String = name.chars().flat_map(|char| ['\\', char]).collect();
            prop_assume!(name != "." );
            prop_assert!(matches(&escaped, &name));
        }
    }
}
