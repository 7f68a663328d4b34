//! Everything that ends up in the product may be used under a permissive licence.

use anyhow::bail;
use cargo_metadata::Metadata;

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

pub(crate) fn check(metadata: &Metadata) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        if BANNED.contains(&package.name.as_str()) {
            wrong.push(format!("{} is banned", package.name));
        }
        let licence = package.license.as_deref().unwrap_or("none");
        if !is_permissive(licence) {
            wrong.push(format!("{} is under `{licence}`", package.name));
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
