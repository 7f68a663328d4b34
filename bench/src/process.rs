//! Other programs, run with a time limit and pipes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// Nothing that is measured takes nearly this long.
const LIMIT: Duration = Duration::from_mins(1);

/// When a program's first output came, and when the program had ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) first: Duration,
    pub(crate) whole: Duration,
    pub(crate) bytes: u64,
}

/// Runs a program to its end. An error unless it ended well.
pub(crate) async fn run(words: &[String]) -> Result<Took> {
    let began = Instant::now();
    let mut child = spawn(words)?;
    let watched = tokio::time::timeout(LIMIT, watch(&mut child, began)).await;
    // Killed when dropped, and hard: some of these ignore a polite signal.
    watched
        .with_context(|| format!("took longer than {LIMIT:?}"))?
        .with_context(|| words.join(" "))
}

/// The same for its output.
pub(crate) async fn output(words: &[String]) -> Result<String> {
    let run = async {
        let output = spawn(words)?.wait_with_output().await?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let done = tokio::time::timeout(LIMIT, run).await;
    done.with_context(|| format!("took longer than {LIMIT:?}"))?
        .with_context(|| words.join(" "))
}

fn spawn(words: &[String]) -> Result<Child> {
    let (program, args) = words.split_first().context("no program")?;
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| program.clone())
}

async fn watch(child: &mut Child, began: Instant) -> Result<Took> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let mut said = String::new();
    let read = async {
        let mut buffer = vec![0; 64 * 1024];
        let (mut first, mut bytes) = (None, 0);
        if let Some(out) = &mut out {
            loop {
                let read = out.read(&mut buffer).await?;
                if read == 0 {
                    break;
                }
                first = first.or_else(|| Some(began.elapsed()));
                bytes += read as u64;
            }
        }
        anyhow::Ok((first, bytes))
    };
    let (read, status, ()) = tokio::join!(read, child.wait(), complaint(&mut err, &mut said));
    let whole = began.elapsed();
    let ((first, bytes), status) = (read?, status?);
    if !status.success() {
        bail!("{status}: {}", said.trim());
    }
    Ok(Took {
        first: first.unwrap_or(whole),
        whole,
        bytes,
    })
}

async fn complaint(err: &mut Option<impl AsyncRead + Unpin>, said: &mut String) {
    if let Some(err) = err {
        drop(err.read_to_string(said).await);
    }
}

/// Words as a command takes them.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Where a program is, if it is there.
pub(crate) fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders
        .map(|folder| format!("{folder}/{program}"))
        .find(|path| std::path::Path::new(path).is_file())
}
