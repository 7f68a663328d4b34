//! Recipes that come with the program.

/// A Dockerfile for each of the names.
const ALL: [(&str, &str); 2] = [
    ("node", include_str!("../ready/node.Dockerfile")),
    ("python", include_str!("../ready/python.Dockerfile")),
];

/// The Dockerfile of this name. It copies nothing, and needs a network.
pub fn ready_made(name: &str) -> Option<&'static str> {
    let found = ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, file)| *file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Map, dockerfile};

    #[test]
    fn they_can_be_read_and_copy_nothing() {
        for (name, file) in ALL {
            let recipe = dockerfile(file, &Map::new()).unwrap();
            let copies = |step: &crate::Step| matches!(step.action, Action::Copy { .. });
            assert!(!recipe.steps.iter().any(copies), "{name}");
            assert_eq!(recipe.from, "base");
        }
        assert_eq!(ready_made("other"), None);
    }
}
