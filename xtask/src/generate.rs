//! Files made from code, checked in so that people can read them and a change of them is seen.

use std::fs;
use std::path::Path;

use anyhow::bail;
use skerry_types::ErrorCode;

const FILES: [(&str, fn() -> String); 1] = [("docs/reference/errors.md", errors)];

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
    let mut out = String::from(
        "# Errors\n\nMade by `cargo xtask gen`. Every answer that is not a success has one of these codes as `error`, a `message` for a person, where \
         it helps a `hint`, and the `request_id` to look for in the log.\n\n| code | status | meaning |\n|---|--:|---|\n",
    );
    for code in ErrorCode::ALL {
        out += &format!("| `{code}` | {} | {} |\n", code.status(), code.meaning());
    }
    out
}
