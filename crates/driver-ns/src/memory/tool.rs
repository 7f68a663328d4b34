//! CRIU: found, and asked whether it can work with this kernel.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Where it lies in a folder that it was unpacked into, or in the root of a machine.
const PROGRAM: &str = "usr/sbin/criu";
/// A folder below the cache folder that it was unpacked into, with what runs it with its own libraries.
const IN_CACHE: &str = "skerry/tools/criu";
const WRAPPER: &str = "criu";
const PATIENCE: Duration = Duration::from_secs(20);
/// The first that could be made to keep and wake up a sandbox on the kernels of today.
const OLDEST: (u32, u32) = (4, 1);

/// A CRIU that works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The folder that holds its `usr`.
    pub(super) root: PathBuf,
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is nowhere.
    #[error("there is no CRIU: neither installed nor in the cache folder")]
    Missing,
    /// It could not be run.
    #[error("cannot run {}", .0.display())]
    Start(PathBuf, #[source] io::Error),
    /// It did not come to an end and was killed.
    #[error("`criu {0}` took longer than {PATIENCE:?}")]
    Hangs(&'static str),
    /// It is not new enough.
    #[error("CRIU {0} is too old: 4.1 is the least")]
    TooOld(String),
    /// It says that it cannot work here.
    #[error("`criu check` fails: {0}")]
    Check(String),
    /// It cannot write where it is tried out.
    #[error("cannot make room to try it out")]
    Room(#[source] io::Error),
    /// It says that it can work here, and does not.
    #[error("`criu {what}` fails with a process that does nothing: {why}")]
    Trial {
        /// `dump` or `restore`.
        what: &'static str,
        /// In its own words.
        why: String,
    },
}

impl Tool {
    /// Finds one that is new enough and calls this kernel good: installed, else in the cache folder.
    pub async fn find() -> Result<Self, ToolError> {
        Self::find_first(None).await
    }

    /// Finds one that, besides, really keeps and wakes up a process here. That is tried in `folder`, which nobody else needs, and remembered there until
    /// this machine starts anew.
    pub async fn find_proven(folder: &Path) -> Result<Self, ToolError> {
        Self::find_first(Some(folder)).await
    }

    async fn find_first(trials: Option<&Path>) -> Result<Self, ToolError> {
        let root = Path::new("/");
        let installed = Self::look(root, &root.join(PROGRAM), trials).await;
        if installed.is_ok() {
            return installed;
        }
        let Some(folder) = cache().map(|cache| cache.join(IN_CACHE)) else {
            return installed;
        };
        match Self::look(&folder, &folder.join(WRAPPER), trials).await {
            Err(ToolError::Missing) => installed,
            found => found,
        }
    }

    /// The release it is of.
    pub fn version(&self) -> &str {
        &self.version
    }

    async fn look(root: &Path, program: &Path, trials: Option<&Path>) -> Result<Self, ToolError> {
        if !root.join(PROGRAM).is_file() {
            return Err(ToolError::Missing);
        }
        let said = call(program, "--version", &[]).await?;
        let version = said
            .out
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        let version = version.unwrap_or_default().trim().to_owned();
        if !is_new_enough(&version) {
            return Err(ToolError::TooOld(version));
        }
        let tool = Self {
            root: root.to_owned(),
            program: program.to_owned(),
            version,
        };
        match trials {
            Some(folder) => tool.prove(folder).await?,
            None => tool.check().await?,
        }
        Ok(tool)
    }

    /// Asks it whether the kernel has what it needs.
    pub(super) async fn check(&self) -> Result<(), ToolError> {
        let checked = call(&self.program, "check", &[]).await?;
        if checked.success {
            return Ok(());
        }
        let why = checked.err.lines().last().unwrap_or("it does not say why");
        Err(ToolError::Check(why.to_owned()))
    }
}

pub(super) struct Said {
    pub(super) success: bool,
    out: String,
    pub(super) err: String,
}

pub(super) async fn call(
    program: &Path,
    what: &'static str,
    args: &[&OsStr],
) -> Result<Said, ToolError> {
    let mut command = Command::new(program);
    command.arg(what).args(args);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(PATIENCE, command.output()).await;
    let ended = ended.map_err(|_| ToolError::Hangs(what))?;
    let ended = ended.map_err(|error| ToolError::Start(program.to_owned(), error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said {
        success: ended.status.success(),
        out: text(&ended.stdout),
        err: text(&ended.stderr),
    })
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    let both = numbers.next().flatten().zip(numbers.next().flatten());
    both.is_some_and(|both| both >= OLDEST)
}

fn cache() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || Some(PathBuf::from(named("HOME")?).join(".cache"));
    named("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for version in ["4.1", "4.1.1", "4.10", "5.0", "10.0.2"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["3.17.1", "4.0", "4", "", "git"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
