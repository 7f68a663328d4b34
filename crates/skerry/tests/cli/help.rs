//! The help is part of the interface.

use tempfile::TempDir;

use crate::bed::{Ran, skerry};

const COMMANDS: [&str; 37] = [
    "up",
    "down",
    "run",
    "create",
    "ls",
    "get",
    "exec",
    "sh",
    "cp",
    "logs",
    "events",
    "execs",
    "ps",
    "stats",
    "url",
    "session open",
    "session exec",
    "fork",
    "tree",
    "snapshot",
    "snapshot create",
    "rollback",
    "timeout",
    "pause",
    "resume",
    "start",
    "stop",
    "rm",
    "clean",
    "image",
    "image pull",
    "image import",
    "template",
    "template build",
    "ca",
    "env e2b",
    "completions",
];

#[test]
fn every_command_explains_itself() {
    let home = TempDir::new().unwrap();
    let mut screen = String::new();
    for name in COMMANDS {
        let words: Vec<&str> = name.split(' ').chain(["--help"]).collect();
        let ran = Ran::of(skerry(&home).args(&words).output().unwrap());
        assert_eq!(ran.code, 0, "{name}");
        // What all commands take stands in the help of the whole.
        let own: Vec<&str> = ran
            .stdout
            .lines()
            .filter(|line| !line.contains("SKERRY_"))
            .collect();
        screen += &format!("$ skerry {name} --help\n{}\n\n", own.join("\n"));
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("help", screen));
}

#[test]
fn shells_get_completions() {
    let home = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ran = Ran::of(skerry(&home).args(["completions", shell]).output().unwrap());
        assert!(
            ran.code == 0 && ran.stdout.contains("skerry"),
            "{shell}: {}",
            ran.stderr
        );
    }
}
