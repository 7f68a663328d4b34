//! `cargo xtask check`: everything that is checked without running the product. `cargo xtask gen`: writes generated files.

mod drivers;
mod generate;
mod layers;
mod licences;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use cargo_metadata::{Metadata, MetadataCommand};

#[expect(clippy::print_stderr, reason = "for a person at a terminal")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().exec()?;
    let root: PathBuf = metadata.workspace_root.clone().into();
    match std::env::args().nth(1).as_deref() {
        Some("check") => check(&root, &metadata),
        Some("gen") => generate::write(&root),
        _ => bail!("usage: cargo xtask check | gen"),
    }
}

fn check(root: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    cargo(root, "fmt", &["fmt", "--all", "--check"])?;
    layers::check(metadata).context("layers")?;
    licences::check(root).context("licences")?;
    tidy::check(root).context("tidy")?;
    generate::check(root).context("generated files")?;
    let strict = ["clippy", "--workspace", "--quiet", "--", "-D", "warnings"];
    cargo(root, "clippy", &strict)?;
    // A test may unwrap, panic and print: that is how it fails.
    let tests = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
        "-A",
        "clippy::unwrap_used",
        "-A",
        "clippy::expect_used",
        "-A",
        "clippy::panic",
        "-A",
        "clippy::print_stdout",
        "-A",
        "clippy::print_stderr",
    ];
    cargo(root, "clippy for tests", &tests)
}

fn output_of_cargo(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(args).current_dir(root).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn cargo(root: &Path, what: &str, args: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(args).current_dir(root).status()?;
    if !status.success() {
        bail!("{what} found something");
    }
    Ok(())
}
