//! `.dockerignore`: what of a context stays behind.

/// Patterns, the last of which that fits decides.
#[derive(Debug, Clone, Default)]
pub struct Ignore(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    parts: Vec<String>,
    takes_back: bool,
}

impl Ignore {
    /// Reads the file.
    pub fn new(file: &str) -> Self {
        let lines = file.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rules = lines.map(|line| {
            let (takes_back, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            let parts = pattern.split('/').filter(|part| !matches!(*part, "" | "."));
            Rule {
                parts: parts.map(str::to_owned).collect(),
                takes_back,
            }
        });
        Self(rules.filter(|rule| !rule.parts.is_empty()).collect())
    }

    /// Whether this path, relative to the context, stays behind. What is below a path that fits, fits too.
    pub fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        let fits = |rule: &&Rule| (1..=names.len()).any(|end| fits(&rule.parts, &names[..end]));
        self.0
            .iter()
            .rev()
            .find(fits)
            .is_some_and(|rule| !rule.takes_back)
    }

    /// Whether something below a path that stays behind may be taken back, so that it has to be looked at.
    pub fn takes_back(&self) -> bool {
        self.0.iter().any(|rule| rule.takes_back)
    }
}

/// `**` is any number of folders.
fn fits(pattern: &[String], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            fits(rest, names)
                || names
                    .split_first()
                    .is_some_and(|(_, names)| fits(pattern, names))
        }
        (Some((first, rest)), Some((name, names))) => wild(first, name) && fits(rest, names),
        _ => false,
    }
}

/// `*` is any text and `?` one character of a name.
pub fn wild(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut taken) = (0, 0);
    let mut star = None;
    while taken < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, taken));
                at += 1;
            }
            Some(&char) if char == '?' || char == name[taken] => {
                at += 1;
                taken += 1;
            }
            _ => match &mut star {
                Some((back, from)) => {
                    *from += 1;
                    (at, taken) = (*back + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_fits_decides() {
        let ignore =
            Ignore::new("# no\n*.log\n/target/\n**/*.tmp\ndocs/*\n!docs/keep.md\n!a.log\n");
        for path in [
            "x.log",
            "target",
            "target/a/b",
            "x.tmp",
            "a/b/x.tmp",
            "docs/x.md",
            "docs/deep/x",
        ] {
            assert!(ignore.matches(path), "{path}");
        }
        for path in [
            "a.log",
            "a/x.log",
            "docs",
            "docs/keep.md",
            "src/target",
            "x.tmpl",
        ] {
            assert!(!ignore.matches(path), "{path}");
        }
        assert!(ignore.takes_back() && !Ignore::new("a").takes_back());
    }

    #[test]
    fn names_with_stars() {
        for (pattern, name, is) in [
            ("*", "", true),
            ("a*c?", "abbcd", true),
            ("a*c", "abd", false),
            ("**x", "yx", true),
        ] {
            assert_eq!(wild(pattern, name), is, "{pattern} {name}");
        }
    }
}
