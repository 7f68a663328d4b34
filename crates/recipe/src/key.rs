//! What makes two templates the same: where they start, and each step with what it copies.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::recipe::{Action, Recipe};

/// A digest of everything up to a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// Of the start. `base` says which content that is, and `setup` what else decides what steps do, such as driver and size.
    pub fn start(base: &str, setup: &str) -> Self {
        Self::of(&[b"start 1", base.as_bytes(), setup.as_bytes()])
    }

    /// After one more step. A copy's archive has a name that says what is in it.
    fn then(self, action: &Action) -> Self {
        // A map of texts is always written, and always in the same way.
        let action = serde_json::to_vec(action).unwrap_or_default();
        Self::of(&[b"step", &self.0, &action])
    }

    /// Of the whole recipe, after its last step. Where nothing runs in it, that is the step's own.
    fn end(self, recipe: &Recipe) -> Self {
        match (&recipe.start, &recipe.ready) {
            (None, None) => self,
            (start, ready) => {
                let [start, ready] = [start, ready].map(|text| text.as_deref().unwrap_or_default());
                Self::of(&[b"end", &self.0, start.as_bytes(), ready.as_bytes()])
            }
        }
    }

    /// After each step of a recipe, and at its end.
    pub fn all(self, recipe: &Recipe) -> Vec<Self> {
        let mut key = self;
        let steps = recipe.steps.iter().map(|step| {
            key = key.then(&step.action);
            key
        });
        let mut keys: Vec<Self> = steps.collect();
        keys.push(key.end(recipe));
        keys
    }

    /// The 32 bytes.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Command;

    #[test]
    fn everything_that_matters_is_in_it_and_nothing_else() {
        let run = |script: &str, args: &[(&str, &str)]| Action::Run {
            command: Command::Shell(script.to_owned()),
            args: args
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            user: None,
        };
        let copy = |dest: &str, files: &str| Action::Copy {
            sources: vec!["a".to_owned()],
            dest: dest.parse().unwrap(),
            owner: None,
            mode: None,
            files: files.to_owned(),
        };
        let start = Key::start("sha256:1", "ns");
        let first = start.then(&run("x", &[]));
        let all = [
            start,
            Key::start("sha256:2", "ns"),
            Key::start("sha256:1", "vm"),
            first,
            Key::start("sha256:2", "ns").then(&run("x", &[])),
            start.then(&run("y", &[])),
            start.then(&run("x", &[("A", "1")])),
            first.then(&run("x", &[])),
            start.then(&copy("/b", "1")),
            start.then(&copy("/b", "2")),
            start.then(&copy("/c", "1")),
        ];
        let different: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
        let recipe = Recipe::default();
        assert_eq!(first.end(&recipe), first);
        let started = Recipe {
            start: Some("x".to_owned()),
            ..recipe
        };
        assert_ne!(first.end(&started), first);
    }
}
