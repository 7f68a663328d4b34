//! The part of a Dockerfile that makes sense here: one stage, and files from the context only. The rest is refused, with the reason.

use std::collections::BTreeSet;

use crate::error::ParseError;
use crate::lines::{Line, lines};
use crate::recipe::{Action, Command, Map, Recipe, Step};
use crate::text::Text;
use crate::words::{WordError, whole, words};

/// Endings of archives, which `ADD` would unpack.
const ARCHIVES: [&str; 7] = [
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz", ".tar.zst",
];

/// Reads a Dockerfile. `args` are values for its `ARG`s; one that it does not have is refused.
pub fn dockerfile(file: &str, args: &Map) -> Result<Recipe, ParseError> {
    let mut reader = Reader {
        given: args,
        unused: args.keys().map(String::as_str).collect(),
        global: Map::new(),
        args: Map::new(),
        set: BTreeSet::new(),
        recipe: Recipe::default(),
    };
    let mut last = 1;
    for line in lines(file)? {
        last = line.number;
        reader.line(&line).map_err(|refusal| ParseError {
            line: line.number,
            message: format!("{}: {}", line.name, refusal.message),
            hint: refusal.hint,
        })?;
    }
    if reader.recipe.from.is_empty() {
        return Err(ParseError::new(
            last,
            "there is no FROM, which says what to start from",
        ));
    }
    if let Some(name) = reader.unused.first() {
        let message = format!("there is no ARG {name}, for which a value was given");
        return Err(ParseError::new(last, message));
    }
    Ok(reader.recipe)
}

/// Why an instruction is refused.
struct Refusal {
    message: String,
    hint: Option<&'static str>,
}

type Read<T = ()> = Result<T, Refusal>;

fn refuse<T>(message: impl Into<String>) -> Read<T> {
    Err(Refusal {
        message: message.into(),
        hint: None,
    })
}

fn refuse_with<T>(message: impl Into<String>, hint: &'static str) -> Read<T> {
    Err(Refusal {
        message: message.into(),
        hint: Some(hint),
    })
}

impl From<WordError> for Refusal {
    fn from(error: WordError) -> Self {
        Self {
            message: error.to_string(),
            hint: None,
        }
    }
}

struct Reader<'a> {
    given: &'a Map,
    /// Given, and not asked for yet.
    unused: BTreeSet<&'a str>,
    /// Before FROM.
    global: Map,
    /// After it.
    args: Map,
    /// Set by ENV, which goes before ARG.
    set: BTreeSet<String>,
    recipe: Recipe,
}

impl Reader<'_> {
    fn line(&mut self, line: &Line) -> Read {
        let is_begun = !self.recipe.from.is_empty();
        match &*line.name {
            "FROM" if is_begun => refuse_with(
                "a second stage",
                "build the first stage as a template of its own, and start from that",
            ),
            "FROM" => self.from(&line.rest),
            "ARG" => self.arg(&line.rest),
            _ if !is_begun => refuse("FROM must come first"),
            "RUN" => self.run(line),
            "COPY" | "ADD" => self.copy(line),
            "ENV" => self.env(line),
            "WORKDIR" => {
                let path = self.word(&line.rest)?;
                self.step(line, Action::Workdir { path });
                Ok(())
            }
            "USER" => {
                let name = self.word(&line.rest)?;
                self.step(line, Action::User { name });
                Ok(())
            }
            "EXPOSE" => self.expose(&line.rest),
            "CMD" => {
                self.recipe.cmd = argv(&line.rest)?;
                Ok(())
            }
            "ENTRYPOINT" => {
                self.recipe.entrypoint = argv(&line.rest)?;
                Ok(())
            }
            // Notes for people, of which nothing follows.
            "LABEL" | "MAINTAINER" => Ok(()),
            "SHELL" => refuse_with("RUN uses /bin/sh", "write RUN [\"bash\", \"-c\", \"…\"]"),
            "HEALTHCHECK" => refuse_with(
                "nothing checks it later",
                "give a start command and a ready check to the build",
            ),
            "VOLUME" => refuse_with("a sandbox has one disk", "leave it out"),
            "ONBUILD" | "STOPSIGNAL" => {
                refuse_with("it has no meaning for a sandbox", "leave it out")
            }
            _ => refuse("no such instruction"),
        }
    }

    fn from(&mut self, rest: &str) -> Read {
        let words = words(rest)?;
        let texts: Vec<Text> = words
            .iter()
            .map(|word| word.bind(&|name| self.global.get(name).cloned()))
            .collect();
        let plain: Option<Vec<&str>> = texts.iter().map(Text::as_plain).collect();
        match plain.as_deref() {
            None => refuse("it uses a variable that no ARG before it sets"),
            Some([image, ..]) if image.starts_with("--") => refuse_with(
                "it takes no options",
                "a sandbox runs on this machine, so there is no other platform",
            ),
            Some(["scratch", ..]) => refuse("a sandbox cannot start from nothing"),
            Some([image] | [image, "AS" | "as" | "As", _]) if !image.is_empty() => {
                (*image).clone_into(&mut self.recipe.from);
                Ok(())
            }
            _ => refuse("it must name one image"),
        }
    }

    fn arg(&mut self, rest: &str) -> Read {
        let words = words(rest)?;
        if words.is_empty() {
            return refuse("it must have a name");
        }
        for word in words {
            let bound = self.bind(&word);
            let Some(text) = bound.as_plain() else {
                return refuse("its default may use an ARG only");
            };
            let (name, default) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, self.global.get(text).cloned()),
            };
            self.unused.remove(name);
            let value = self.given.get(name).cloned().or(default);
            let scope = if self.recipe.from.is_empty() {
                &mut self.global
            } else {
                &mut self.args
            };
            if let Some(value) = value {
                scope.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn run(&mut self, line: &Line) -> Read {
        if line.rest.starts_with("--") {
            return refuse_with(
                "it takes no options",
                "copy what it needs, and remove it in the same RUN",
            );
        }
        if has_heredoc(&line.rest) {
            return refuse_with(
                "a here-document",
                "put the script into a file, COPY it, and RUN that",
            );
        }
        let command = command(&line.rest)?;
        // ENV goes before ARG.
        let mut args = self.args.clone();
        args.retain(|name, _| !self.set.contains(name));
        let action = Action::Run {
            command,
            args,
            user: None,
        };
        self.step(line, action);
        Ok(())
    }

    fn copy(&mut self, line: &Line) -> Read {
        let (mut owner, mut mode) = (None, None);
        let mut rest = &*line.rest;
        while let Some(option) = rest.strip_prefix("--") {
            let (option, after) = option
                .split_once(char::is_whitespace)
                .unwrap_or((option, ""));
            match option.split_once('=') {
                Some(("chown", value)) => owner = Some(self.word(value)?),
                Some(("chmod", value)) => mode = Some(octal(value)?),
                Some(("from", _)) => {
                    return refuse_with(
                        "--from: there are no other stages",
                        "COPY takes files of the context only",
                    );
                }
                _ => {
                    return refuse(format!(
                        "--{option}: no such option; there are --chown and --chmod"
                    ));
                }
            }
            rest = after.trim_start();
        }
        let words = if rest.starts_with('[') {
            json(rest)?
                .iter()
                .map(|word| whole(word))
                .collect::<Result<_, _>>()?
        } else if has_heredoc(rest) {
            return refuse_with("a here-document", "put it into a file of the context");
        } else {
            words(rest)?
        };
        let words: Vec<Text> = words.iter().map(|word| self.bind(word)).collect();
        let Some((dest, sources)) = words
            .split_last()
            .filter(|(_, sources)| !sources.is_empty())
        else {
            return refuse("it must have a source and a destination");
        };
        let mut plain = Vec::new();
        for source in sources {
            match source.as_plain() {
                Some(source) => plain.push(source_path(&line.name, source)?),
                None => return refuse("a source may use an ARG, and no other variable"),
            }
        }
        let action = Action::Copy {
            sources: plain,
            dest: dest.clone(),
            owner,
            mode,
            files: String::new(),
        };
        self.step(line, action);
        Ok(())
    }

    fn env(&mut self, line: &Line) -> Read {
        let found = words(&line.rest)?;
        let Some(first) = found.first().map(ToString::to_string) else {
            return refuse("it must have a name");
        };
        let mut set = Vec::new();
        if first.contains('=') {
            for pair in split_pairs(&line.rest)? {
                let Some((name, value)) = pair else {
                    return refuse("it must be NAME=VALUE pairs");
                };
                set.push((name, self.bind(&value)));
            }
        } else {
            let value = line
                .rest
                .trim_start()
                .strip_prefix(&*first)
                .unwrap_or_default();
            set.push((first, self.word(value)?));
        }
        let names: Vec<&str> = set.iter().map(|(name, _)| &**name).collect();
        let text = format!("ENV {}", names.join(" "));
        self.set.extend(set.iter().map(|(name, _)| name.clone()));
        self.recipe.steps.push(Step {
            force: false,
            line: Some(line.number),
            text,
            action: Action::Env { set },
        });
        Ok(())
    }

    fn expose(&mut self, rest: &str) -> Read {
        for word in words(rest)? {
            let bound = self.bind(&word);
            let text = bound.as_plain().unwrap_or_default();
            let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            match (port.parse(), protocol) {
                (Ok(port), "tcp") if port > 0 => self.recipe.ports.push(port),
                _ => return refuse("it must be TCP ports, one by one: 80 8080/tcp"),
            }
        }
        Ok(())
    }

    /// One word, in which spaces are spaces.
    fn word(&self, text: &str) -> Read<Text> {
        let word = self.bind(&whole(text)?);
        if word == Text::default() {
            return refuse("it must have a value");
        }
        Ok(word)
    }

    /// With the values of ARGs, where no ENV goes before them.
    fn bind(&self, text: &Text) -> Text {
        let scope = if self.recipe.from.is_empty() {
            &self.global
        } else {
            &self.args
        };
        text.bind(&|name| {
            scope
                .get(name)
                .filter(|_| !self.set.contains(name))
                .cloned()
        })
    }

    fn step(&mut self, line: &Line, action: Action) {
        self.recipe.steps.push(Step {
            force: false,
            line: Some(line.number),
            text: line.shown(),
            action,
        });
    }
}

/// A source as a path below the context: `/a` means the same as `a`.
fn source_path(instruction: &str, source: &str) -> Read<String> {
    if source.contains("://") || source.starts_with("git@") {
        return refuse_with(
            "it takes files of the context only",
            "RUN can download, and checks what it got",
        );
    }
    let is_archive = ARCHIVES.iter().any(|end| source.ends_with(end));
    if instruction == "ADD" && is_archive {
        return refuse_with("it does not unpack archives", "COPY it, and RUN tar");
    }
    if source.split('/').any(|part| part == "..") {
        return refuse(format!("`{source}` is not below the context"));
    }
    Ok(match source.trim_start_matches('/') {
        "" => ".".to_owned(),
        path => path.to_owned(),
    })
}

/// `NAME=VALUE` pairs; `None` for a word that is none.
fn split_pairs(rest: &str) -> Read<Vec<Option<(String, Text)>>> {
    let words = words(rest)?;
    let pairs = words.iter().map(|word| {
        let written = word.to_string();
        let (name, value) = written
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(pairs.collect())
}

fn has_heredoc(rest: &str) -> bool {
    rest.split_whitespace().any(|word| {
        let Some(name) = word.strip_prefix("<<") else {
            return false;
        };
        let name = name.trim_start_matches('-').trim_start_matches(['"', '\'']);
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}

fn octal(text: &str) -> Read<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => refuse("--chmod must be octal, such as 755"),
    }
}

/// `["a", "b"]` is a program and its arguments, everything else a script.
fn command(rest: &str) -> Read<Command> {
    if rest.is_empty() {
        return refuse("it must have a command");
    }
    // What only looks like JSON is a script, as everywhere.
    match json(rest) {
        Ok(argv) if !argv.is_empty() => Ok(Command::Argv(argv)),
        _ => Ok(Command::Shell(rest.to_owned())),
    }
}

fn argv(rest: &str) -> Read<Vec<String>> {
    Ok(match command(rest)? {
        Command::Argv(argv) => argv,
        Command::Shell(script) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
    })
}

fn json(rest: &str) -> Read<Vec<String>> {
    serde_json::from_str(rest)
        .or_else(|_| refuse("it begins like a list, and is none: [\"a\", \"b\"]"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = r#"# syntax=docker/dockerfile:1
ARG TAG=bookworm
FROM debian:${TAG}-slim AS build
ARG VERSION=1.2
ARG TAG
LABEL note="of no use"
ENV PATH=/opt/bin:$PATH V="$VERSION b" W='$V'
ENV LEGACY a  "b" $V
RUN apt-get update && \
    # a comment in between
    apt-get install -y --no-install-recommends \
      curl
RUN ["echo", "$not a variable"]
WORKDIR /srv/$VERSION
USER user:users
COPY --chown=user:users --chmod=0750 a.txt "b c" $VERSION.txt dir/
COPY ["x y", "."]
ADD src /srv
EXPOSE 80 8080/tcp
ENTRYPOINT ["/bin/app"]
CMD serve --port 80
"#;

    #[test]
    fn a_whole_file() {
        let recipe = dockerfile(WHOLE, &Map::new()).unwrap();
        insta::assert_json_snapshot!(recipe);
        let given = [("TAG".to_owned(), "trixie".to_owned())].into();
        assert_eq!(
            dockerfile(WHOLE, &given).unwrap().from,
            "debian:trixie-slim"
        );
    }

    #[test]
    fn what_is_not_in_the_subset_is_refused_with_its_line() {
        let mut shown = String::new();
        for last in [
            "FROM b",
            "RUN --mount=type=cache,target=/x make",
            "RUN <<EOF",
            "COPY <<-'EOF' /x",
            "COPY --from=build /a /b",
            "COPY --link a b",
            "COPY a",
            "COPY ../a b",
            "COPY $PATH b",
            "COPY [\"a\" b",
            "ADD https://example.org/x /x",
            "ADD a.tar.gz /x",
            "COPY --chmod=u+x a b",
            "SHELL [\"bash\"]",
            "HEALTHCHECK NONE",
            "VOLUME /x",
            "ONBUILD RUN x",
            "STOPSIGNAL 9",
            "NONSENSE",
            "ENV",
            "ENV a=1 b",
            "ENV A=${B",
            "ENV A=\"x",
            "EXPOSE 53/udp",
            "EXPOSE 8000-8010",
            "ARG A=$HOME",
            "WORKDIR",
            "RUN",
            "USER ''",
        ] {
            let file = format!("FROM a\n\n{last}\nRUN x");
            let error = dockerfile(&file, &Map::new()).unwrap_err();
            assert_eq!(error.line, 3, "{last}");
            let hint = error.hint.map(|hint| format!(" ({hint})"));
            shown += &format!("{last}\n  {}{}\n", error.message, hint.unwrap_or_default());
        }
        for file in [
            "",
            "RUN x",
            "ARG A\nFROM $A",
            "FROM",
            "FROM a b",
            "FROM --platform=x a",
            "FROM scratch",
            "# escape=`\nFROM a",
        ] {
            let error = dockerfile(file, &Map::new()).unwrap_err();
            shown += &format!("{file:?}\n  {error}\n");
        }
        insta::assert_snapshot!(shown);
        let given = [("NO".to_owned(), "1".to_owned())].into();
        assert!(dockerfile("FROM a", &given).is_err());
    }

    #[test]
    fn values_are_not_shown() {
        let recipe = dockerfile("FROM a\nENV TOKEN=secret B=2\nENV C hush", &Map::new()).unwrap();
        let shown: Vec<_> = recipe.steps.iter().map(|step| &*step.text).collect();
        assert_eq!(shown, ["ENV TOKEN B", "ENV C"]);
    }

    #[test]
    fn an_argument_is_for_commands_and_env_goes_before_it() {
        let recipe = dockerfile(
            "FROM a\nARG A=1\nARG B=2\nENV A=$A$B\nRUN echo $A\nWORKDIR /$A$B",
            &Map::new(),
        )
        .unwrap();
        let Action::Run { args, .. } = &recipe.steps[1].action else {
            panic!("it runs");
        };
        assert_eq!(args, &[("B".to_owned(), "2".to_owned())].into());
        let Action::Workdir { path } = &recipe.steps[2].action else {
            panic!("it is a folder");
        };
        assert_eq!(path.to_string(), "/${A}2");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(file in "(FROM a\n)?((ENV|COPY|RUN|ARG|ADD|EXPOSE|CMD|USER) [ -~é]{0,20}(\\\\)?\n){0,4}") {
            if let Ok(recipe) = dockerfile(&file, &Map::new()) {
                let written = serde_json::to_string(&recipe).unwrap();
                prop_assert_eq!(serde_json::from_str::<Recipe>(&written).unwrap(), recipe);
            }
        }
    }
}
