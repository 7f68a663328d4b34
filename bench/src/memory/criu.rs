//! CRIU by hand: a program in process numbers of its own, and nothing else of a sandbox.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::tool::{Kept, Tool, hold, program, strings, until_held};
use crate::process::{self, output};
use crate::pss;

pub(super) struct Criu {
    program: String,
    scratch: TempDir,
    /// What waits for the program, which is the one below it.
    parent: Child,
    /// First processes of copies.
    copies: Vec<u32>,
    more: Vec<Child>,
}

pub(super) async fn start() -> Result<Criu> {
    let program = program("criu", "criu", "criu")?;
    let scratch = TempDir::with_prefix("skerry-bench-criu-")?;
    let held = scratch.path().join("held").display().to_string();
    // A session of its own, since a session is kept whole or not at all.
    let parent = Command::new("unshare")
        .args(["--fork", "--pid", "--ipc", "--uts", "setsid", "sh", "-c"])
        .arg(hold(&held))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let criu = Criu {
        program,
        scratch,
        parent,
        copies: Vec::new(),
        more: Vec::new(),
    };
    output(&strings(&["sh", "-c", &until_held(&held)])).await?;
    Ok(criu)
}

impl Criu {
    fn kept_pid(&self) -> Result<u32> {
        let parent = self.parent.id().context("it has ended")?;
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        Ok(children.trim().parse()?)
    }

    /// Has it do something with the images.
    async fn call(&self, does: &str, more: &[&str]) -> Result<()> {
        let images = self.images();
        let common = ["-D", &images, "-o", "log", "--manage-cgroups=ignore"];
        let command = strings(&[&[&*self.program, does][..], &common, more].concat());
        let called = output(&command).await;
        called.map(drop).with_context(|| {
            let log = fs::read_to_string(format!("{images}/log")).unwrap_or_default();
            let mut errors = log.lines().filter(|line| line.contains("Error"));
            errors.next_back().unwrap_or_default().to_owned()
        })
    }

    fn images(&self) -> String {
        self.scratch.path().join("images").display().to_string()
    }

    /// A command in a copy.
    fn inside(copy: u32, command: &[&str]) -> Vec<String> {
        let target = copy.to_string();
        let enter = ["nsenter", "--target", &target, "--pid", "--ipc", "--uts"];
        strings(&[&enter[..], command].concat())
    }
}

#[async_trait]
impl Tool for Criu {
    fn name(&self) -> String {
        "criu".to_owned()
    }

    async fn cold(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }

    async fn keep(&mut self) -> Result<Kept> {
        drop(fs::remove_dir_all(self.images()));
        fs::create_dir(self.images())?;
        let pid = self.kept_pid()?.to_string();
        let began = Instant::now();
        self.call("dump", &["--leave-running", "-t", &pid]).await?;
        let took = began.elapsed();
        let stats = fs::read(self.scratch.path().join("images/stats-dump"))?;
        Ok(Kept {
            took,
            stood: frozen(&stats),
        })
    }

    async fn wake(&mut self) -> Result<Duration> {
        let pid_file = self.scratch.path().join("images/pid");
        drop(fs::remove_file(&pid_file));
        let began = Instant::now();
        let name = pid_file.display().to_string();
        self.call("restore", &["--restore-detached", "--pidfile", &name])
            .await?;
        let restored = began.elapsed();
        let copy = fs::read_to_string(pid_file)?.trim().parse()?;
        self.copies.push(copy);
        let said = process::run(&Self::inside(copy, &["/bin/echo", "ready"])).await?;
        ensure!(said.bytes == 6, "it did not say `ready`");
        Ok(restored + said.first)
    }

    fn pss(&self) -> Result<f64> {
        let of_copies = self.copies.iter().flat_map(|&copy| pss::below(copy));
        let more = self.more.iter().filter_map(Child::id);
        pss::of(of_copies.chain(more.flat_map(pss::below)))
    }

    async fn touch(&mut self) -> Result<()> {
        for &copy in &self.copies {
            let held = self.scratch.path().join(format!("more-{copy}"));
            let held = held.display().to_string();
            let command = Self::inside(copy, &["sh", "-c", &hold(&held)]);
            let child = Command::new(&command[0])
                .args(&command[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            self.more.push(child);
            output(&strings(&["sh", "-c", &until_held(&held)])).await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        // With the first process of its numbers all others end.
        pss::end(self.copies.drain(..));
        self.more.clear();
        Ok(())
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        let kept = self.kept_pid().ok();
        pss::end(self.copies.drain(..).chain(kept));
    }
}

/// For how long it held everything, of its statistics: two magic words, a length, then an entry (1) that has microseconds (2) as its second field.
fn frozen(stats: &[u8]) -> Option<Duration> {
    let mut entry = stats.get(12..)?.iter().copied();
    let tag = entry.next()?;
    varint(&mut entry)?;
    let mut field = || Some((entry.next()?, varint(&mut entry)?));
    let (first, second) = (field()?, field()?);
    ((tag, first.0, second.0) == (0x0a, 0x08, 0x10)).then(|| Duration::from_micros(second.1))
}

fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
