//! Recipes that come with the program.

use crate::{Map, ParseError, Recipe, dockerfile, document};

/// One of them.
#[derive(Debug)]
pub struct ReadyMade {
    /// What it is called, and so is the template.
    pub name: &'static str,
    /// A Dockerfile, or a TOML recipe if it copies something.
    text: &'static str,
    /// What it copies: paths in the folder to copy from, and their contents.
    pub files: &'static [(&'static str, &'static str)],
}

impl ReadyMade {
    /// How it is made. Needs a network.
    pub fn recipe(&self) -> Result<Recipe, ParseError> {
        if self.files.is_empty() {
            dockerfile(self.text, &Map::new())
        } else {
            document(self.text)
        }
    }
}

/// All of them.
pub const READY_MADE: &[ReadyMade] = &[
    ReadyMade {
        name: "node",
        text: include_str!("../ready/node.Dockerfile"),
        files: &[],
    },
    ReadyMade {
        name: "python",
        text: include_str!("../ready/python.Dockerfile"),
        files: &[],
    },
    ReadyMade {
        name: "code-interpreter-v1",
        text: include_str!("../ready/code-interpreter-v1/skerry.toml"),
        files: &INTERPRETER,
    },
];

/// The one of this name.
pub fn ready_made(name: &str) -> Option<&'static ReadyMade> {
    READY_MADE.iter().find(|one| one.name == name)
}

macro_rules! files {
    ($folder:literal: $($path:literal),+ $(,)?) => {
        [$(($path, include_str!(concat!($folder, "/", $path)))),+]
    };
}

const INTERPRETER: [(&str, &str); 16] = files!("../ready/code-interpreter-v1":
    "skerry_interpreter/__init__.py",
    "skerry_interpreter/__main__.py",
    "skerry_interpreter/bash.sh",
    "skerry_interpreter/contexts.py",
    "skerry_interpreter/http.py",
    "skerry_interpreter/inside/__init__.py",
    "skerry_interpreter/inside/boxes.py",
    "skerry_interpreter/inside/charts.py",
    "skerry_interpreter/inside/data.py",
    "skerry_interpreter/inside/scales.py",
    "skerry_interpreter/javascript.js",
    "skerry_interpreter/jupyter.py",
    "skerry_interpreter/kernel.py",
    "skerry_interpreter/outputs.py",
    "skerry_interpreter/process.py",
    "skerry_interpreter/routes.py",
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::Action;

    #[test]
    fn they_can_be_read_and_bring_what_they_copy() {
        for one in READY_MADE {
            let recipe = one.recipe().unwrap();
            assert_eq!(recipe.from, "base", "{}", one.name);
            for step in &recipe.steps {
                let Action::Copy { sources, .. } = &step.action else {
                    continue;
                };
                for source in sources {
                    let is_there = |(path, _): &(&str, &str)| path.starts_with(&**source);
                    assert!(one.files.iter().any(is_there), "{source}");
                }
            }
        }
        assert!(ready_made("other").is_none());
    }

    #[test]
    fn no_file_of_the_interpreter_is_forgotten() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ready/code-interpreter-v1");
        let mut there = BTreeSet::new();
        for folder in ["skerry_interpreter", "skerry_interpreter/inside"] {
            for entry in fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let path = path.strip_prefix(&root).unwrap();
                    there.insert(path.to_str().unwrap().to_owned());
                }
            }
        }
        let listed = INTERPRETER.iter().map(|(path, _)| (*path).to_owned());
        assert_eq!(there, listed.collect());
    }
}
