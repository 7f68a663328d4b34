//! Every source file says in its first line what it is, and holds one idea.

use std::fs;
use std::path::Path;

use anyhow::bail;

const MAX_LINES: usize = 700;

pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for folder in ["crates", "xtask", "bench"] {
        visit(&root.join(folder), &mut wrong)?;
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn visit(folder: &Path, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            visit(&path, wrong)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path)?;
            wrong.extend(problem(&text).map(|what| format!("{}: {what}", path.display())));
        }
    }
    Ok(())
}

fn problem(text: &str) -> Option<String> {
    let lines = text.lines().count();
    if !text.starts_with("//!") {
        return Some("does not begin with a line of `//!`".to_owned());
    }
    (lines > MAX_LINES).then(|| format!("has {lines} lines, over {MAX_LINES}: more than one idea"))
}
