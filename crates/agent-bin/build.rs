//! Builds `skerry-agent` and `skerry-guest` static, in a target folder of its own, whatever profile and flags the outer build has.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What goes into sandboxes.
const PROGRAMS: [&str; 2] = ["skerry-agent", "skerry-guest"];
/// What they are made of, from the workspace's root.
const SOURCES: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "crates/agent/Cargo.toml",
    "crates/agent/src",
    "crates/guest/Cargo.toml",
    "crates/guest/src",
    "crates/proto/Cargo.toml",
    "crates/proto/src",
    "crates/sys/Cargo.toml",
    "crates/sys/src",
    "crates/types/Cargo.toml",
    "crates/types/src",
];
/// Settings of the outer cargo that say where crates come from; all others are about the outer build.
const KEPT: [&str; 5] = [
    "CARGO_HOME",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let target = format!("{}-unknown-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    let folder = out.join("target");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .arg("build")
        .args(PROGRAMS.iter().flat_map(|name| ["--package", name]))
        .args(PROGRAMS.iter().flat_map(|name| ["--bin", name]))
        .args(["--profile", "agent", "--target", &target, "--target-dir"])
        .arg(&folder)
        .current_dir(&root);
    for (name, _) in env::vars_os() {
        if name.to_str().is_none_or(is_about_the_outer_build) {
            cargo.env_remove(name);
        }
    }
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("building {PROGRAMS:?} failed: {status}").into());
    }
    for name in PROGRAMS {
        let built = folder.join(&target).join("agent").join(name);
        fs::copy(built, out.join(name))?;
    }
    Ok(())
}

fn is_about_the_outer_build(name: &str) -> bool {
    let cargo = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
    let compiler = name.starts_with("RUSTC") || name.contains("RUSTFLAGS");
    let outputs = matches!(
        name,
        "TARGET" | "HOST" | "OUT_DIR" | "PROFILE" | "OPT_LEVEL" | "DEBUG"
    );
    cargo || compiler || outputs
}
