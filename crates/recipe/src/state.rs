//! What the steps so far make of those that follow: environment, folder and user.

use crate::recipe::{Action, Command, Map};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The environment.
    pub env: Map,
    /// An absolute path.
    pub workdir: String,
    /// As whom commands run.
    pub user: String,
}

/// What a step needs to have done in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// A folder is made with its parents.
    Folder(String),
    /// A command is run.
    Run {
        /// Which.
        command: Command,
        /// As whom.
        user: String,
        /// Beside the environment.
        args: Map,
    },
    /// An archive's files are put there.
    Copy {
        /// Paths in the archive, without `.` and slashes at their ends; the archive's top is empty.
        sources: Vec<String>,
        /// An absolute path; with a slash at its end a folder.
        dest: String,
        /// Whose they shall be; `None`: root's.
        owner: Option<String>,
        /// Their permission bits.
        mode: Option<u32>,
    },
}

impl State {
    /// Takes one step.
    pub fn apply(&mut self, action: &Action) -> Effect {
        let env = std::mem::take(&mut self.env);
        let value = |name: &str| env.get(name).cloned();
        let effect = match action {
            Action::Run {
                command,
                args,
                user,
            } => Effect::Run {
                command: command.clone(),
                user: user
                    .as_ref()
                    .map_or_else(|| self.user.clone(), |user| user.resolve(&value)),
                args: args.clone(),
            },
            Action::Copy {
                sources,
                dest,
                owner,
                mode,
                ..
            } => Effect::Copy {
                sources: sources.iter().map(|source| tidy(source)).collect(),
                dest: below(&self.workdir, &dest.resolve(&value)),
                owner: owner.as_ref().map(|owner| owner.resolve(&value)),
                mode: *mode,
            },
            Action::Env { set } => {
                let set: Vec<_> = set
                    .iter()
                    .map(|(name, text)| (name.clone(), text.resolve(&value)))
                    .collect();
                self.env.extend(env);
                self.env.extend(set);
                return Effect::Nothing;
            }
            Action::Workdir { path } => {
                let path = below(&self.workdir, &path.resolve(&value));
                self.workdir = match path.trim_end_matches('/') {
                    "" => "/".to_owned(),
                    path => path.to_owned(),
                };
                Effect::Folder(self.workdir.clone())
            }
            Action::User { name } => {
                self.user = name.resolve(&value);
                Effect::Nothing
            }
        };
        self.env = env;
        effect
    }
}

/// A path from this folder on, without `.` and `..`; keeps whether it says that it is a folder.
fn below(folder: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{folder}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let says_folder = matches!(whole.rsplit('/').next(), Some("" | "." | ".."));
    let end = if says_folder && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", parts.join("/"))
}

fn tidy(source: &str) -> String {
    let parts = source.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            env: [("PATH".to_owned(), "/bin".to_owned())].into(),
            workdir: "/home/user".to_owned(),
            user: "user".to_owned(),
        }
    }

    #[test]
    fn a_variable_is_set_from_the_environment_before() {
        let mut state = state();
        let set = |pairs: &[(&str, &str)]| Action::Env {
            set: pairs
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.parse().unwrap()))
                .collect(),
        };
        state.apply(&set(&[("A", "1"), ("B", "$A"), ("PATH", "/x:$PATH")]));
        state.apply(&set(&[("B", "$A$B")]));
        let env: Vec<_> = state.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(env, ["A=1", "B=1", "PATH=/x:/bin"]);
    }

    #[test]
    fn folders_follow_each_other() {
        let mut state = state();
        for (path, then) in [
            ("a/b", "/home/user/a/b"),
            ("../c/", "/home/user/a/c"),
            ("/../..", "/"),
            (".", "/"),
        ] {
            let path = path.parse().unwrap();
            assert_eq!(
                state.apply(&Action::Workdir { path }),
                Effect::Folder(then.to_owned())
            );
        }
        let copy = Action::Copy {
            sources: vec!["./a/".to_owned(), ".".to_owned()],
            dest: "x".parse().unwrap(),
            owner: None,
            mode: None,
            files: String::new(),
        };
        let Effect::Copy { sources, dest, .. } = state.apply(&copy) else {
            panic!("it copies");
        };
        assert_eq!(
            (&sources[..], &*dest),
            (&["a".to_owned(), String::new()][..], "/x")
        );
    }
}
