//! `skerry up --detach` and `skerry down`: a server that no terminal holds.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use skerry_sys::poll::readable;

use crate::Global;
use crate::cli::{Failure, output};
use crate::data_dir::DataDir;

pub(crate) const DETACH: &str = "--detach";

/// Longer than a server may take to end.
const END: Duration = Duration::from_mins(1);
/// The end of a log that an error shows.
const TAIL_BYTES: u64 = 2000;

/// End the server that runs on this machine; its sandboxes run on
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  skerry clean --force && skerry down")]
pub(crate) struct DownArgs {}

/// Starts the server again without a terminal, and returns once it listens.
pub(crate) fn detach(global: &Global, data_dir: &DataDir) -> anyhow::Result<()> {
    let path = data_dir.log_file();
    let log = File::options()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let begin = log.metadata()?.len();
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1).filter(|arg| arg != DETACH))
        // Ctrl-C and the end of the terminal are for those in its foreground.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.try_clone()?)
        .spawn()
        .context("cannot start the server")?;
    let stdout = child.stdout.take().context("the server has no output")?;
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let Some(url) = first_line(stdout, &process)? else {
        return Err(Failure::failed(format!("the server ended: {}", tail(log, begin)?)).into());
    };
    let tls_url = DataDir::read(&data_dir.tls_url_file())?;
    if global.json {
        let said = json!({"url": url, "tls_url": tls_url, "pid": child.id(), "log": path});
        return output::json(&said);
    }
    output::line(&url)?;
    if let Some(url) = tls_url {
        output::line(&url)?;
    }
    output::note(&format!(
        "it logs to {}; `skerry down` ends it",
        path.display()
    ));
    Ok(())
}

/// What the process says first, or `None` if it ends before.
fn first_line(stdout: ChildStdout, process: &OwnedFd) -> anyhow::Result<Option<String>> {
    // What the process started may hold the other end too, so its end alone would not be seen.
    let ready = readable([stdout.as_fd(), process.as_fd()], None)?;
    if !ready[0] {
        return Ok(None);
    }
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
}

/// The last thing that was logged from there on, as one error says it.
fn tail(mut log: File, begin: u64) -> anyhow::Result<String> {
    let end = log.metadata()?.len();
    log.seek(SeekFrom::Start(begin.max(end.saturating_sub(TAIL_BYTES))))?;
    let mut text = Vec::new();
    log.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let from = text.rfind("error: ").map_or(0, |at| at + "error: ".len());
    Ok(text[from..].trim().to_owned())
}

/// Ends the server whose data folder this is, and returns once it has.
pub(crate) fn down(global: &Global, _args: &DownArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::choose(global.data_dir.as_deref())?;
    let none = || {
        let message = format!("no server runs on {}", data_dir.path().display());
        Failure::unreachable(message).hint("--data-dir names the folder of another")
    };
    let pid = DataDir::read(&data_dir.pid_file())?.ok_or_else(none)?;
    let pid = pid.parse().ok().and_then(Pid::from_raw).ok_or_else(none)?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Err(none().into()),
        opened => opened?,
    };
    // The number of one that was killed may be another's by now.
    if !is_server(pid) {
        return Err(none().into());
    }
    pidfd_send_signal(&process, Signal::TERM).context("cannot end the server")?;
    if !readable([process.as_fd()], Some(END))?[0] {
        bail!("the server did not end within {} s", END.as_secs());
    }
    if global.json {
        return output::json(&json!({"pid": pid.as_raw_nonzero().get()}));
    }
    Ok(())
}

fn is_server(pid: Pid) -> bool {
    let name = |who: &str| std::fs::read(format!("/proc/{who}/comm")).ok();
    name("self").is_some_and(|own| name(&pid.as_raw_nonzero().to_string()) == Some(own))
}
