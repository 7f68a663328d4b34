//! `runsc`: found and tried, with a limit on its time, since it is known to hang.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::processes;

const NAME: &str = "runsc";
/// Where a program of this name lies in an unpacked package below the cache folder.
const IN_CACHE: &str = "skerry/tools/runsc/usr/bin/runsc";
const PROBE_PATIENCE: Duration = Duration::from_secs(20);
/// Of what a call says, the rest is read and forgotten.
const MAX_SAID: usize = 4096;

/// What makes the system calls of a sandbox end up in gVisor, best first.
const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];

/// A `runsc` that works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    path: PathBuf,
    version: String,
    platform: &'static str,
}

/// Why there is none, or why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is nowhere.
    #[error("there is no `runsc`: neither in PATH nor in the cache folder")]
    Missing,
    /// It could not be started.
    #[error("cannot run {path}: {source}")]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not come to an end and was killed.
    #[error("`runsc {call}` took longer than {seconds} s")]
    Hangs {
        /// What was called.
        call: String,
        /// How long it had.
        seconds: u64,
    },
    /// It failed.
    #[error("`runsc {call}` failed ({status}): {said}")]
    Failed {
        /// What was called.
        call: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, shortened.
        said: String,
    },
    /// No platform works.
    #[error("`runsc` cannot run anything here: {0}")]
    NoPlatform(Box<ToolError>),
}

impl Tool {
    /// Finds `runsc`: the one that is named, else in PATH, else in the cache folder; then lets it run something on each platform.
    ///
    /// `scratch` is a folder for the state of that run, with a short path.
    pub async fn find(named: Option<&Path>, scratch: &Path) -> Result<Self, ToolError> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => look_around().ok_or(ToolError::Missing)?,
        };
        let said = call(&path, &["--version"], PROBE_PATIENCE).await?;
        let version = said.lines().next().and_then(|line| line.rsplit(' ').next());
        let mut tool = Self {
            path,
            version: version.unwrap_or_default().to_owned(),
            platform: PLATFORMS[0],
        };
        let mut first_error = None;
        for platform in PLATFORMS {
            tool.platform = platform;
            match tool.try_out(scratch).await {
                Ok(()) => return Ok(tool),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let error = first_error.unwrap_or(ToolError::Missing);
        Err(ToolError::NoPlatform(Box::new(error)))
    }

    /// The release it is of.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How it catches system calls: `systrap` or `ptrace`.
    pub fn platform(&self) -> &str {
        self.platform
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The flags that every call about a sandbox has in common.
    pub(crate) fn flags(&self, root: &Path) -> Vec<String> {
        vec![
            processes::root_flag(root),
            format!("--platform={}", self.platform),
            // Groups are ours to make, and overlays too.
            "--ignore-cgroups".to_owned(),
            "--overlay2=none".to_owned(),
            // The kernel of the sandbox holds no file of the host; another process, without network, opens them for it.
            "--directfs=false".to_owned(),
            "--host-uds=open".to_owned(),
            // Memory that is kept has no connections to the outside: they end.
            "--net-disconnect-ok".to_owned(),
        ]
    }

    async fn try_out(&self, scratch: &Path) -> Result<(), ToolError> {
        let done = self.call_do(scratch).await;
        let root = scratch.to_owned();
        // Whatever hangs is started by it, and knows its folder.
        let swept = tokio::task::spawn_blocking(move || processes::kill_root(&root)).await;
        done.and(
            swept
                .map_err(io::Error::other)
                .flatten()
                .map_err(|source| ToolError::Start {
                    path: self.path.clone(),
                    source,
                }),
        )
    }

    async fn call_do(&self, scratch: &Path) -> Result<(), ToolError> {
        // Those of a sandbox, so that one that is too old for them is found out; what it runs is itself, which is surely there.
        let flags = self.flags(scratch);
        let program = self.path.to_string_lossy();
        let does = ["--network=none", "do", program.as_ref(), "--version"];
        let args: Vec<&str> = flags.iter().map(String::as_str).chain(does).collect();
        call(&self.path, &args, PROBE_PATIENCE).await.map(drop)
    }
}

/// Runs it to its end, or kills it.
async fn call(path: &Path, args: &[&str], patience: Duration) -> Result<String, ToolError> {
    let start = |source| ToolError::Start {
        path: path.to_owned(),
        source,
    };
    let mut child = Command::new(path)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ending = async { tokio::join!(said(out), said(err), child.wait()) };
    let name = || {
        args.iter()
            .find(|arg| !arg.starts_with('-'))
            .copied()
            .unwrap_or("--version")
            .to_owned()
    };
    let Ok((out, err, status)) = timeout(patience, ending).await else {
        return Err(ToolError::Hangs {
            call: name(),
            seconds: patience.as_secs(),
        });
    };
    let status = status.map_err(start)?;
    if status.success() {
        return Ok(out);
    }
    Err(ToolError::Failed {
        call: name(),
        status,
        said: err,
    })
}

/// Reads to the end and keeps the beginning.
async fn said(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut buffer = vec![0; MAX_SAID];
    if let Some(mut stream) = stream {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let room = MAX_SAID - kept.len();
            kept.extend_from_slice(&buffer[..count.min(room)]);
        }
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

fn look_around() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME").filter(|home| home != OsStr::new(""))?;
            Some(PathBuf::from(home).join(".cache"))
        });
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(NAME));
    let in_cache = cache.map(|cache| cache.join(IN_CACHE));
    in_path.chain(in_cache).find(|file| file.is_file())
}
