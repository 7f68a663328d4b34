//! `runsc` by hand: a container of the same files, kept by `checkpoint` and woken up by `restore`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;

use super::tool::{Kept, Tool, hold, program, quiet, strings, until_held};
use crate::process::{self, output};
use crate::pss;

const PARENT: &str = "parent";

pub(super) struct Runsc {
    scratch: TempDir,
    /// The program with the flags that all calls have in common.
    command: Vec<String>,
    copies: Vec<String>,
    made: usize,
}

pub(super) async fn start(root: &Path) -> Result<Runsc> {
    let program = program("runsc", "usr/bin/runsc", "runsc")?;
    let scratch = TempDir::with_prefix("skerry-bench-runsc-")?;
    let state = format!("--root={}", scratch.path().join("state").display());
    let flags = [
        "--ignore-cgroups",
        "--overlay2=root:memory",
        "--network=none",
    ];
    let command = strings(&[&[&*program, "--platform=systrap", &state], &flags[..]].concat());
    bundle(&scratch.path().join("hello"), root, &["/bin/echo", "ready"])?;
    let held = hold("/tmp/held");
    bundle(
        &scratch.path().join(PARENT),
        root,
        &["/bin/sh", "-c", &held],
    )?;
    let runsc = Runsc {
        scratch,
        command,
        copies: Vec::new(),
        made: 0,
    };
    let bundle = runsc.path(PARENT);
    runsc
        .detached(&["run", "--detach", "--bundle", &bundle, PARENT])
        .await?;
    let wait = until_held("/tmp/held");
    output(&runsc.call(&["exec", PARENT, "/bin/sh", "-c", &wait])).await?;
    Ok(runsc)
}

fn bundle(folder: &Path, root: &Path, argv: &[&str]) -> Result<()> {
    let kinds = ["pid", "ipc", "uts", "mount", "network"];
    let config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": root },
        "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": argv },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": { "namespaces": kinds.map(|kind| json!({ "type": kind })) },
    });
    fs::create_dir(folder)?;
    fs::write(folder.join("config.json"), config.to_string())?;
    Ok(())
}

impl Runsc {
    fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    fn call(&self, args: &[&str]) -> Vec<String> {
        [&*self.command, &strings(args)].concat()
    }

    async fn detached(&self, args: &[&str]) -> Result<()> {
        output(&quiet(&self.call(args))).await.map(drop)
    }
}

#[async_trait]
impl Tool for Runsc {
    fn name(&self) -> String {
        "runsc".to_owned()
    }

    async fn cold(&mut self) -> Result<Option<Duration>> {
        let bundle = self.path("hello");
        let took = process::run(&self.call(&["run", "--bundle", &bundle, "hello"])).await?;
        ensure!(took.bytes == 6, "it did not say `ready`");
        Ok(Some(took.first))
    }

    async fn keep(&mut self) -> Result<Kept> {
        let images = self.path("images");
        drop(fs::remove_dir_all(&images));
        fs::create_dir(&images)?;
        let path = format!("--image-path={images}");
        let args = [
            "checkpoint",
            "--leave-running",
            "--compression=none",
            &path,
            PARENT,
        ];
        let began = Instant::now();
        output(&self.call(&args)).await?;
        Ok(Kept {
            took: began.elapsed(),
            stood: None,
        })
    }

    async fn wake(&mut self) -> Result<Duration> {
        self.made += 1;
        let copy = format!("copy-{}", self.made);
        let (bundle, path) = (
            self.path(PARENT),
            format!("--image-path={}", self.path("images")),
        );
        let began = Instant::now();
        self.detached(&["restore", "--detach", "--bundle", &bundle, &path, &copy])
            .await?;
        let restored = began.elapsed();
        let said = process::run(&self.call(&["exec", &copy, "/bin/echo", "ready"])).await?;
        ensure!(said.bytes == 6, "it did not say `ready`");
        self.copies.push(copy);
        Ok(restored + said.first)
    }

    fn pss(&self) -> Result<f64> {
        pss::of(pss::named(&self.path("state")))
    }

    async fn touch(&mut self) -> Result<()> {
        let (hold, wait) = (hold("/tmp/more"), until_held("/tmp/more"));
        let begin = format!("{{ {hold}; }} </dev/null >/dev/null 2>&1 & {wait}");
        for copy in &self.copies {
            output(&self.call(&["exec", copy, "/bin/sh", "-c", &begin])).await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        for copy in std::mem::take(&mut self.copies) {
            output(&self.call(&["delete", "--force", &copy])).await?;
        }
        Ok(())
    }
}

impl Drop for Runsc {
    fn drop(&mut self) {
        pss::end(pss::named(&self.path("state")));
    }
}
