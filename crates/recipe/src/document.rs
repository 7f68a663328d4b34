//! A recipe as a TOML file.

use serde::Deserialize;
use toml::Spanned;

use crate::error::ParseError;
use crate::recipe::{Action, Command, Map, Recipe, Step};
use crate::text::Text;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    from: String,
    #[serde(default, rename = "step")]
    steps: Vec<Spanned<toml::Table>>,
    start: Option<String>,
    ready: Option<String>,
    #[serde(default)]
    entrypoint: Vec<String>,
    #[serde(default)]
    cmd: Vec<String>,
    #[serde(default)]
    ports: Vec<u16>,
}

const STEP: &str = "this is no step";
const STEP_HINT: &str =
    "a step is one of run (user), copy and to (owner, mode), env, workdir, or user";

/// One of these, with what belongs to it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Run(Run),
    Copy(Copy),
    Env(Env),
    Workdir(Workdir),
    User(User),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    run: Command,
    user: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    #[serde(rename = "copy")]
    sources: Vec<String>,
    to: Text,
    owner: Option<Text>,
    mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Env {
    env: std::collections::BTreeMap<String, Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workdir {
    workdir: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    user: Text,
}

/// Reads a TOML recipe.
pub fn document(file: &str) -> Result<Recipe, ParseError> {
    let read: File = toml::from_str(file).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        ParseError::new(line_of(file, at), error.message())
    })?;
    let mut recipe = Recipe {
        from: read.from,
        steps: Vec::new(),
        start: read.start,
        ready: read.ready,
        entrypoint: read.entrypoint,
        cmd: read.cmd,
        ports: read.ports,
    };
    for entry in read.steps {
        let line = line_of(file, entry.span().start);
        let entry = Entry::deserialize(entry.into_inner())
            .map_err(|_| ParseError::new(line, STEP).hint(STEP_HINT))?;
        recipe.steps.push(step(line, entry)?);
    }
    Ok(recipe)
}

fn line_of(file: &str, at: usize) -> u32 {
    let before = file.get(..at).unwrap_or(file);
    before.matches('\n').count() as u32 + 1
}

fn step(line: u32, entry: Entry) -> Result<Step, ParseError> {
    let (text, action) = match entry {
        Entry::Run(Run { run, user }) => {
            let text = match &run {
                Command::Shell(script) => script.lines().next().unwrap_or_default().to_owned(),
                Command::Argv(argv) => argv.join(" "),
            };
            let action = Action::Run {
                command: run,
                args: Map::new(),
                user,
            };
            (format!("run {text}"), action)
        }
        Entry::Copy(Copy {
            sources,
            to,
            owner,
            mode,
        }) => {
            let mode = mode.map(|mode| {
                let bits = u32::from_str_radix(&mode, 8).ok();
                bits.filter(|bits| *bits <= 0o7777)
                    .ok_or_else(|| ParseError::new(line, "mode must be octal, such as \"755\""))
            });
            let text = format!("copy {} to {to}", sources.join(" "));
            let action = Action::Copy {
                sources,
                dest: to,
                owner,
                mode: mode.transpose()?,
                files: String::new(),
            };
            (text, action)
        }
        Entry::Env(Env { env }) => {
            let names: Vec<&str> = env.keys().map(String::as_str).collect();
            let text = format!("env {}", names.join(" "));
            let set = env.into_iter().collect();
            (text, Action::Env { set })
        }
        Entry::Workdir(Workdir { workdir }) => {
            let text = format!("workdir {workdir}");
            (text, Action::Workdir { path: workdir })
        }
        Entry::User(User { user }) => (format!("user {user}"), Action::User { name: user }),
    };
    Ok(Step {
        line: Some(line),
        text,
        force: false,
        action,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file() {
        let recipe = document(
            r#"
from = "base"
start = "python3 -m http.server 8000"
ready = "curl -sf http://localhost:8000"
ports = [8000]

[[step]]
run = "sudo apt-get update"

[[step]]
env = { PATH = "/opt:$PATH", A = "secret" }

[[step]]
copy = ["src", "main.py"]
to = "/srv/"
owner = "user"
mode = "750"

[[step]]
user = "root"

[[step]]
run = ["make", "-j2"]
user = "user"
"#,
        );
        insta::assert_json_snapshot!(recipe.unwrap());
    }

    #[test]
    fn an_error_says_where() {
        for (file, line) in [
            ("x = 1", 1),
            (
                "from = 'a'\n\n[[step]]\nrun = 'x'\n\n[[step]]\nruns = 'x'",
                6,
            ),
            (
                "from = 'a'\n[[step]]\ncopy = ['a']\nto = 'b'\nmode = '9'",
                2,
            ),
            ("from = 'a'\nports = [99999]", 2),
            ("from = ", 1),
        ] {
            assert_eq!(document(file).unwrap_err().line, line, "{file}");
        }
    }
}
