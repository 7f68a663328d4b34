//! A recipe: where a template starts, the steps from there, and how what is made of it starts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::Text;

/// Names and values.
pub type Map = BTreeMap<String, String>;

const MAX_STEPS: usize = 256;
const MAX_PORTS: usize = 64;
const MAX_COMMAND_BYTES: usize = 128 * 1024;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// An image, a template or a snapshot.
    pub from: String,
    /// In their order.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Runs before the snapshot is taken, and goes on in what is made from the template; started again there where the driver keeps no memory. Needs `ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Tried again and again after `start`, until it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// What always runs, if anything does: a default that the template's record shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Default arguments, or the default command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Ports that programs of the template listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Where it stands in its file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// How it is shown. Never holds the value of a variable.
    pub text: String,
    /// Do it and what follows again, whatever was kept of earlier builds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// What it does.
    pub action: Action,
}

/// What a step does. Texts may have variables of the environment in them: `${PATH}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Runs a command, which must end with 0.
    Run {
        /// Which.
        command: Command,
        /// Beside the environment, for this command only.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        args: Map,
        /// As whom; the user of the step unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<Text>,
    },
    /// Copies files. Of a folder the content is copied.
    Copy {
        /// Paths in the archive.
        sources: Vec<String>,
        /// Where to. A folder if it ends with `/`, is one, or there are several sources.
        dest: Text,
        /// Whose they are: a name or number, and a group behind a colon. Root's unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Text>,
        /// Their permission bits; as they are in the archive unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
        /// The name under which the archive was uploaded: 64 hexadecimal digits.
        #[serde(default)]
        files: String,
    },
    /// Sets variables, each from the environment before this step.
    Env {
        /// Names and values.
        #[schema(value_type = Vec<Vec<String>>)]
        set: Vec<(String, Text)>,
    },
    /// Makes a folder, and goes there. Relative to the one before.
    Workdir {
        /// Which.
        path: Text,
    },
    /// As whom commands run from now on.
    User {
        /// A name or number, and a group behind a colon.
        name: Text,
    },
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Command {
    /// A script for the shell.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

impl Recipe {
    /// What bounds there are, and what belongs together. Says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.from.is_empty() {
            return Err("from: must name what to start from".to_owned());
        }
        if self.steps.len() > MAX_STEPS {
            return Err(format!(
                "steps: {} of them; {MAX_STEPS} are possible",
                self.steps.len()
            ));
        }
        if self.ports.len() > MAX_PORTS {
            return Err(format!("ports: {MAX_PORTS} are possible"));
        }
        if self.start.is_some() != self.ready.is_some() {
            return Err("start and ready: give both, or neither".to_owned());
        }
        let steps = (1..).zip(&self.steps);
        for (number, step) in steps {
            step.action
                .check()
                .map_err(|why| format!("steps: step {number}: {why}"))?;
        }
        Ok(())
    }
}

impl Action {
    /// It changes files, so what comes of it is worth keeping.
    pub const fn makes_layer(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Copy { .. })
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Run { command, .. } => command.check(),
            Self::Copy { sources, files, .. } => {
                let is_hash = files.len() == 64 && files.bytes().all(|b| b.is_ascii_hexdigit());
                if !is_hash {
                    return Err("files: must be 64 hexadecimal digits".to_owned());
                }
                let stays = |source: &String| {
                    !source.starts_with('/') && source.split('/').all(|part| part != "..")
                };
                if sources.is_empty() || !sources.iter().all(stays) {
                    return Err(
                        "sources: must be paths below the folder that is copied from".to_owned(),
                    );
                }
                Ok(())
            }
            Self::Env { set } => match set.iter().find(|(name, _)| !is_name(name)) {
                Some((name, _)) => Err(format!("`{name}` cannot be the name of a variable")),
                None => Ok(()),
            },
            Self::Workdir { .. } | Self::User { .. } => Ok(()),
        }
    }
}

impl Command {
    fn check(&self) -> Result<(), String> {
        let bytes = match self {
            Self::Shell(script) => script.len(),
            Self::Argv(argv) => argv.iter().map(String::len).sum(),
        };
        let is_empty = match self {
            Self::Shell(script) => script.trim().is_empty(),
            Self::Argv(argv) => argv.is_empty(),
        };
        if is_empty || bytes > MAX_COMMAND_BYTES {
            return Err(format!("a command has 1 to {MAX_COMMAND_BYTES} bytes"));
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['=', '\0', '$', '\\'])
        && !name.contains(char::is_whitespace)
}
