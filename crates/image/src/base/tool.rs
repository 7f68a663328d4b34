//! The tool as a child: its output unpacked, its log passed on, its whole group killed when nobody waits.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tempfile::TempDir;

use crate::error::{ImageError, Result};
use crate::job::Cancel;
use crate::progress::{Phase, Progress};
use crate::store::Inner;
use crate::unpack::{Budget, unpack};

use super::BaseError;
use super::recipe::{Recipe, TOOL, proxies};

/// Lines of the log that an error shows.
const TAIL: usize = 6;
/// Bytes of a line that are shown.
const LINE: u64 = 400;
/// What the tool may know of our environment.
const PASSED_ON: &[&str] = &["PATH", "http_proxy", "https_proxy", "no_proxy"];

/// The running tool.
pub(super) struct Tool {
    group: Group,
    pid: Pid,
    stdout: ChildStdout,
    stderr: ChildStderr,
    progress: Progress,
    /// Sources and scratch space of the tool.
    _scratch: TempDir,
}

impl Tool {
    pub(super) fn start(recipe: &Recipe, inner: &Inner, progress: Progress) -> Result<Self> {
        let scratch = inner.folders.work_folder()?;
        let lines = scratch.path().join("machine.list");
        let stanzas = scratch.path().join("machine.sources");
        let mut sources = Vec::new();
        for (path, text) in [
            (&lines, &recipe.sources.lines),
            (&stanzas, &recipe.sources.stanzas),
        ] {
            if !text.is_empty() {
                fs::write(path, text).map_err(ImageError::io("write", path))?;
                sources.push(path.as_path());
            }
        }
        let mut command = Command::new(TOOL);
        command
            .args(recipe.arguments(&sources, &proxies(&apt_config())))
            .env_clear()
            .env("LANG", "C.UTF-8")
            .env("TMPDIR", scratch.path())
            .envs(
                PASSED_ON
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            );
        Self::spawn(command, scratch, progress)
    }

    fn spawn(mut command: Command, scratch: TempDir, progress: Progress) -> Result<Self> {
        let failed = |source| BaseError::Start { tool: TOOL, source };
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = pipes.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let pid = Pid::from_child(&child);
        Ok(Self {
            group: Group {
                child,
                reaped: false,
            },
            pid,
            stdout,
            stderr,
            progress,
            _scratch: scratch,
        })
    }

    /// Unpacks what the tool writes; gives the tree and its name. Dropping the future kills the tool.
    pub(super) async fn unpack(mut self, inner: Arc<Inner>) -> Result<(TempDir, String)> {
        let cancel = Cancel::new();
        let budget = Budget::new(inner.limits.clone(), cancel.flag());
        let (stdout, stderr, pid) = (self.stdout, self.stderr, self.pid);
        let progress = self.progress;
        let (unpacked, log) = tokio::task::spawn_blocking(move || {
            let said = std::thread::spawn(move || follow(stderr, &progress));
            let unpacked = unpack_output(stdout, &inner, &budget);
            // Not reaped yet, so its number still means its group.
            let _ended = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED.union(WaitIdOptions::NOWAIT),
            );
            (unpacked, said.join().unwrap_or_default())
        })
        .await?;
        let status = self.group.end().map_err(ImageError::io("wait for", TOOL))?;
        if !status.success() {
            return Err(BaseError::Failed { tool: TOOL, log }.into());
        }
        unpacked
    }
}

fn unpack_output(stdout: impl Read, inner: &Inner, budget: &Budget) -> Result<(TempDir, String)> {
    let tree = inner.folders.work_folder()?;
    let name = unpack(stdout, tree.path(), inner.ids, budget)
        .map_err(ImageError::unpack("the Debian base"))?;
    Ok((tree, name))
}

/// Passes each line on as progress; gives the last ones.
fn follow(log: impl Read, progress: &Progress) -> String {
    let mut log = BufReader::new(log);
    let mut tail = VecDeque::new();
    let mut line = Vec::new();
    while matches!((&mut log).take(LINE).read_until(b'\n', &mut line), Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim().trim_start_matches("I: ").to_owned();
        line.clear();
        if text.is_empty() {
            continue;
        }
        progress.report(Phase::Building, 0, 0, text.clone());
        tail.push_back(text);
        if tail.len() > TAIL {
            tail.pop_front();
        }
    }
    Vec::from(tail).join("\n")
}

/// The tool and all it started; nothing of it outlives this.
struct Group {
    child: Child,
    reaped: bool,
}

impl Group {
    /// Kills what still runs, and reaps the tool. Until then its number cannot mean another group.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            self.reaped = true;
        }
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _status = self.end();
    }
}

fn apt_config() -> String {
    let output = Command::new("apt-config").arg("dump").output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
