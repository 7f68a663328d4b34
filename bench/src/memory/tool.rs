//! What is measured: something that keeps running programs with their memory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;

use crate::{cache_home, process};

/// Something that can keep a running program with its memory, and make copies of it. Dropped, it ends what it started.
#[async_trait]
pub(super) trait Tool: Send {
    fn name(&self) -> String;

    /// How many times it is worth waiting for.
    fn rounds(&self) -> usize {
        super::ROUNDS
    }

    /// How many times its beginning is.
    fn cold_rounds(&self) -> usize {
        self.rounds()
    }

    /// From nothing to the first output, if it can begin with nothing. Leaves nothing.
    async fn cold(&mut self) -> Result<Option<Duration>>;

    /// Keeps the program, which runs on, and forgets what was kept before.
    async fn keep(&mut self) -> Result<Kept>;

    /// Makes a copy of what was kept last. Returns when a program that was started in it has said a word, and how long that took.
    async fn wake(&mut self) -> Result<Duration>;

    /// Both.
    async fn fork(&mut self) -> Result<Duration> {
        Ok(self.keep().await?.took + self.wake().await?)
    }

    /// The PSS of all that there is because of it, in MiB.
    fn pss(&self) -> Result<f64>;

    /// Has a program in each copy hold 32 MiB.
    async fn touch(&mut self) -> Result<()>;

    /// Ends all copies.
    async fn clear(&mut self) -> Result<()>;

    /// What a reader should know beside the figures.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// How keeping went.
pub(super) struct Kept {
    pub(super) took: Duration,
    /// For how long the program stood still. `None`: the tool does not say.
    pub(super) stood: Option<Duration>,
}

/// A shell's command that holds 32 MiB for good, and says so in a file. They are no zeros, which some do not keep.
pub(super) fn hold(file: &str) -> String {
    let touch = "yes 2>/dev/null | dd bs=33554432 count=1 iflag=fullblock 2>/dev/null";
    format!("{touch} | {{ head -c 1 >/dev/null; echo held >{file}; exec sleep 100000; }}")
}

/// A shell's command that waits for that.
pub(super) fn until_held(file: &str) -> String {
    format!("until [ -s {file} ]; do sleep 0.02; done")
}

/// A program that `scripts/tools.sh` fetched, or that is installed.
pub(super) fn program(tool: &str, path: &str, installed: &str) -> Result<String> {
    let fetched = tools(tool)?.join(path);
    if fetched.is_file() {
        return Ok(fetched.display().to_string());
    }
    process::find(installed).with_context(|| format!("`{installed}` is not there"))
}

/// Where `scripts/tools.sh` puts a tool.
pub(super) fn tools(tool: &str) -> Result<PathBuf> {
    Ok(cache_home()?.join("skerry/tools").join(tool))
}

pub(super) fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The same without its streams: what it starts keeps them open, and a pipe would never end.
pub(super) fn quiet(command: &[String]) -> Vec<String> {
    let shell = strings(&["sh", "-c", "exec \"$@\" >/dev/null 2>&1", "sh"]);
    [&*shell, command].concat()
}
