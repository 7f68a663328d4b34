//! A crate depends only on crates of lower levels. The table is the one of ARCHITECTURE.md.

use anyhow::{Context, bail};
use cargo_metadata::{DependencyKind, Metadata};

/// Crates by level, lowest first.
const LEVELS: [&[&str]; 8] = [
    &["types", "proto", "recipe"],
    &["api", "driver", "journal", "sys"],
    &["image", "net", "store", "storage", "client"],
    &[
        "driver-ns",
        "driver-gvisor",
        "driver-vm",
        "driver-docker",
        "driver-sim",
    ],
    &["node", "control"],
    &["http"],
    &["e2b"],
    &["agent", "agent-bin", "guest", "skerry"],
];
/// Helpers of developers: nothing but tests may need them.
const DEVELOPMENT: [&str; 3] = ["testkit", "xtask", "bench"];
/// Pairs on one level that are allowed, each for a reason: messages are written in `types`; the binary carries the agent.
const WITHIN: [(&str, &str); 2] = [("proto", "types"), ("skerry", "agent-bin")];

fn level(name: &str) -> Option<usize> {
    LEVELS.iter().position(|names| names.contains(&name))
}

pub(crate) fn check(metadata: &Metadata) -> anyhow::Result<()> {
    for package in metadata.workspace_packages() {
        let name = short(&package.name);
        if DEVELOPMENT.contains(&name) {
            continue;
        }
        let own = level(name).with_context(|| format!("crate `{name}` has no level"))?;
        let normal = package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal && d.path.is_some());
        for dependency in normal {
            let other = short(&dependency.name);
            let is_lower = level(other).is_some_and(|level| level < own);
            if !is_lower && !WITHIN.contains(&(name, other)) {
                bail!("`{name}` (level {own}) must not depend on `{other}`");
            }
        }
    }
    Ok(())
}

fn short(name: &str) -> &str {
    name.strip_prefix("skerry-").unwrap_or(name)
}
