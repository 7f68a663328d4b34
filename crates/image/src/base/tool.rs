//! The tool as a child: its output unpacked, its log passed on, all that it started killed when nobody waits.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
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
/// Looks for those who left the group; who is killed may have started another before.
const ROUNDS: u32 = 200;
/// For whoever was killed to be gone.
const ROUND: Duration = Duration::from_millis(5);
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
            .env("TMPDIR", scratch.path())
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
                scratch: scratch.path().to_owned(),
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
        let budget = inner.budget(cancel.flag());
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
    /// By this, in their environment, those are known who left the group, as the helper of `fakeroot` does.
    scratch: PathBuf,
    reaped: bool,
}

impl Group {
    /// Kills what still runs, and reaps the tool. Until then its number cannot mean another group.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            self.reaped = true;
            for _ in 0..ROUNDS {
                let left = started_with(&self.scratch);
                if left.is_empty() {
                    break;
                }
                for pid in left {
                    let _gone = kill_process(pid, Signal::KILL);
                }
                std::thread::sleep(ROUND);
            }
        }
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _status = self.end();
    }
}

/// Processes whose place for temporary files is this folder. One that has ended has no environment any more.
fn started_with(scratch: &Path) -> Vec<Pid> {
    let entry = [b"TMPDIR=", scratch.as_os_str().as_bytes()].concat();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == entry)
    })
    .filter_map(Pid::from_raw)
    .collect()
}

fn apt_config() -> String {
    let output = Command::new("apt-config").arg("dump").output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_the_group_of_the_tool_ends_with_it_too() {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 1000 & echo $! >&2; exec sleep 1000"]);
        let scratch = TempDir::new().unwrap();
        let tool = Tool::spawn(command, scratch, Progress::none()).unwrap();
        let Tool { group, stderr, .. } = tool;
        let mut pid = String::new();
        BufReader::new(stderr).read_line(&mut pid).unwrap();
        drop(group);
        let environment = fs::read(format!("/proc/{}/environ", pid.trim()));
        assert!(environment.unwrap_or_default().is_empty(), "{pid}");
    }
}
