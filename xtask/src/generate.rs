//! Files made from code, checked in so that people can read them and a change of them is seen.

use std::fs;
use std::path::Path;

use anyhow::bail;
use skerry_types::ErrorCode;

use crate::drivers;

/// A file, and what makes its text.
type Generated = (&'static str, fn() -> String);

const FILES: [Generated; 2] = [
    ("docs/reference/errors.md", errors),
    ("docs/reference/drivers.md", drivers::table),
];

pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    for (path, make) in FILES {
        fs::write(root.join(path), make())?;
    }
    Ok(())
}

pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    for (path, make) in FILES {
        if fs::read_to_string(root.join(path)).unwrap_or_default() != make() {
            bail!("{path} is out of date: run `cargo xtask gen`");
        }
    }
    Ok(())
}

fn errors() -> String {
    let rows: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| format!("| `{code}` | {} | {} |", code.status(), code.meaning()))
        .collect();
    format!("{HEAD}{}\n", rows.join("\n"))
}

const HEAD: &str = "# Errors

Made by `cargo xtask gen`. Every answer that is not a success has one of these codes as `error`, a `message` for a person, where it helps a `hint`, and the `request_id` to look for in the log. Only what cannot be read as HTTP at all (400) and heads that are too large (431) have no body.

| code | status | meaning |
|---|--:|---|
";
