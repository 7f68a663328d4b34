//! How a template is built, as these clients say it.

use serde::{Deserialize, Serialize};
use skerry_control::BuildRequest;
use skerry_control::recipe::{Action, Command, Recipe, Step, Text};
use skerry_types::{Error, Result};

use super::id::plain_name;

/// The image that clients start from unless told otherwise; ours has the same in it.
const THEIR_BASE: &str = "e2bdev/base";
const OUR_BASE: &str = "base";
/// A program is ready after so many seconds unless it says when.
const READY: &str = "sleep 20";

/// How to build.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Order {
    from_image: Option<String>,
    from_template: Option<String>,
    from_image_registry: Option<Registry>,
    steps: Vec<Instruction>,
    force: Option<bool>,
    start_cmd: Option<String>,
    ready_cmd: Option<String>,
}

/// A login at a registry.
#[derive(Clone, Serialize, Deserialize)]
struct Registry {
    #[serde(rename = "type")]
    kind: String,
    username: Option<String>,
    password: Option<String>,
}

/// A step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Instruction {
    #[serde(rename = "type")]
    kind: String,
    args: Vec<String>,
    force: Option<bool>,
    files_hash: Option<String>,
}

impl Order {
    /// Adds how it is done to what was asked for before.
    pub(super) fn complete(self, asked: BuildRequest) -> Result<BuildRequest> {
        let (from, fetch) = match (self.from_image, self.from_template) {
            (Some(image), None) if is_base(&image) => (OUR_BASE.to_owned(), false),
            (Some(image), None) => (image, true),
            (None, Some(template)) => (plain_name(&template), false),
            _ => {
                return Err(Error::validation(
                    "give fromImage or fromTemplate, one of them",
                ));
            }
        };
        let steps = (1..).zip(self.steps);
        let mut steps: Vec<Step> = steps
            .map(|(number, step)| step.read(number))
            .collect::<Result<_>>()?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (start, ready) = match (given(self.start_cmd), given(self.ready_cmd)) {
            (Some(start), ready) => (Some(start), Some(ready.unwrap_or_else(|| READY.to_owned()))),
            (None, Some(ready)) => {
                steps.push(until(&ready));
                (None, None)
            }
            (None, None) => (None, None),
        };
        Ok(BuildRequest {
            recipe: Recipe {
                from,
                steps,
                start,
                ready,
                ..Recipe::default()
            },
            no_cache: self.force == Some(true),
            fetch,
            login: self.from_image_registry.map(Registry::login).transpose()?,
            ..asked
        })
    }
}

fn is_base(image: &str) -> bool {
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    name.split(':').next() == Some(THEIR_BASE)
}

/// Waits for something that no program of the build itself does.
fn until(ready: &str) -> Step {
    Step {
        line: None,
        text: format!("ready {ready}"),
        force: false,
        action: Action::Run {
            command: Command::Shell(format!("until {{ {ready}\n}}; do sleep 0.5; done")),
            args: std::collections::BTreeMap::new(),
            user: None,
        },
    }
}

impl Registry {
    fn login(self) -> Result<(String, String)> {
        match (self.kind.as_str(), self.username, self.password) {
            ("registry", Some(user), Some(password)) => Ok((user, password)),
            _ => Err(Error::unsupported(
                "fromImageRegistry: a user name and a password of a registry are all that it takes",
            )),
        }
    }
}

impl Instruction {
    fn read(self, number: u32) -> Result<Step> {
        let wrong = |why: &str| Error::validation(format!("steps: step {number}: {why}"));
        let mut args = self.args.into_iter();
        let first = args.next().unwrap_or_default();
        let mut next = || args.next().filter(|arg| !arg.is_empty());
        let (text, action) = match self.kind.to_ascii_uppercase().as_str() {
            "RUN" => {
                let text = format!("RUN {}", first.lines().next().unwrap_or_default());
                let user = next().map(|user| word(&user));
                let command = Command::Shell(first);
                let args = std::collections::BTreeMap::new();
                (
                    text,
                    Action::Run {
                        command,
                        args,
                        user,
                    },
                )
            }
            "COPY" => {
                let dest = next().ok_or_else(|| wrong("it must say where to"))?;
                let owner = next().map(|owner| word(&owner));
                let mode = next().map(|mode| u32::from_str_radix(&mode, 8));
                let mode = mode
                    .transpose()
                    .map_err(|_| wrong("the mode must be octal"))?;
                let action = Action::Copy {
                    sources: vec![source(&first)],
                    dest: word(&dest),
                    owner,
                    mode,
                    files: self.files_hash.unwrap_or_default(),
                };
                (format!("COPY {first} {dest}"), action)
            }
            "ENV" => {
                let mut set = vec![(first, next_value(&mut args))];
                while let Some(name) = args.next() {
                    set.push((name, next_value(&mut args)));
                }
                let names: Vec<&str> = set.iter().map(|(name, _)| name.as_str()).collect();
                (format!("ENV {}", names.join(" ")), Action::Env { set })
            }
            "WORKDIR" => (
                format!("WORKDIR {first}"),
                Action::Workdir { path: word(&first) },
            ),
            "USER" => (format!("USER {first}"), Action::User { name: word(&first) }),
            other => return Err(wrong(&format!("`{other}` is no step"))),
        };
        Ok(Step {
            line: None,
            text,
            force: self.force == Some(true),
            action,
        })
    }
}

fn next_value(args: &mut impl Iterator<Item = String>) -> Text {
    word(&args.next().unwrap_or_default())
}

/// With variables in it, where it can be read so.
fn word(text: &str) -> Text {
    text.parse().unwrap_or_else(|_| Text::plain(text))
}

/// A source as a path in the archive.
fn source(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_start_matches('/');
    let path = path.trim_end_matches('/');
    if path.is_empty() { "." } else { path }.to_owned()
}
