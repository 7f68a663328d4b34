//! Everything that ends up in the product may be used under a permissive licence.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;

use crate::output_of_cargo;

const PERMISSIVE: [&str; 14] = [
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
];
/// Crates that would bring a second provider of cryptography, or a C library.
const BANNED: [&str; 4] = ["ring", "openssl-sys", "native-tls", "libseccomp-sys"];

pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    // What is really built: the lock file also names what no feature of ours asks for.
    let tree = [
        "tree",
        "--workspace",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ];
    let tree = output_of_cargo(root, &tree)?;
    let packages: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| line.trim_end_matches(" (*)").split_once('|'))
        .collect();
    let mut wrong = Vec::new();
    for (package, licence) in packages {
        let name = package.split(' ').next().unwrap_or_default();
        if BANNED.contains(&name) {
            wrong.push(format!("{name} is banned"));
        }
        if !is_permissive(licence) {
            wrong.push(format!("{name} is under `{licence}`"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Every part of an `AND` has a choice, among those joined by `OR`, that is permissive.
fn is_permissive(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    flat.split(" AND ").all(|part| {
        part.split(" OR ")
            .filter_map(|choice| choice.split(" WITH ").next())
            .any(|choice| PERMISSIVE.contains(&choice.trim()))
    })
}
