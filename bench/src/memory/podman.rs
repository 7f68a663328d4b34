//! Podman, which has CRIU keep and wake up a container: through an archive of its memory and files.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use tempfile::TempDir;

use super::tool::{Kept, Tool, hold, program, quiet, strings, until_held};
use crate::cache_dir;
use crate::peers::podman;
use crate::process::{self, output};
use crate::pss;

const PARENT: &str = "skerry-bench-parent";

pub(super) struct Podman {
    scratch: TempDir,
    /// What all calls begin with.
    command: Vec<String>,
    image: &'static str,
    copies: Vec<String>,
    made: usize,
}

pub(super) async fn start() -> Result<Podman> {
    let criu = program("criu", "criu", "criu")?;
    let folder = Path::new(&criu).parent().context("criu is in no folder")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let scratch = TempDir::with_prefix("skerry-bench-podman-")?;
    let with_criu = format!("PATH={}:{path}", folder.display());
    let command = [
        strings(&["env", &with_criu]),
        podman::command(scratch.path())?,
    ]
    .concat();
    let podman = Podman {
        image: podman::import(&command, &cache_dir()?).await?,
        scratch,
        command,
        copies: Vec::new(),
        made: 0,
    };
    let begin = podman.new_container(
        &["--detach", "--name", PARENT],
        &["/bin/sh", "-c", &hold("/tmp/held")],
    );
    output(&begin).await?;
    let wait = until_held("/tmp/held");
    podman
        .call(&["exec", PARENT, "/bin/sh", "-c", &wait])
        .await?;
    Ok(podman)
}

impl Podman {
    fn new_container(&self, how: &[&str], argv: &[&str]) -> Vec<String> {
        let rest = [how, &[self.image], argv].concat();
        [podman::run(&self.command), strings(&rest)].concat()
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        [&*self.command, &strings(args)].concat()
    }

    async fn call(&self, args: &[&str]) -> Result<()> {
        output(&self.words(args)).await.map(drop)
    }

    fn archive(&self) -> String {
        self.scratch.path().join("kept.tar").display().to_string()
    }
}

#[async_trait]
impl Tool for Podman {
    fn name(&self) -> String {
        "podman".to_owned()
    }

    /// It needs more than a second for each.
    fn rounds(&self) -> usize {
        5
    }

    async fn cold(&mut self) -> Result<Option<Duration>> {
        let run = self.new_container(&["--rm"], &["/bin/echo", "ready"]);
        Ok(Some(process::run(&run).await?.first))
    }

    async fn keep(&mut self) -> Result<Kept> {
        let archive = self.archive();
        drop(fs::remove_file(&archive));
        let how = [
            "--leave-running",
            "--compress",
            "none",
            "--export",
            &archive,
        ];
        let args = [&["container", "checkpoint"][..], &how, &[PARENT]].concat();
        let began = Instant::now();
        self.call(&args).await?;
        Ok(Kept {
            took: began.elapsed(),
            stood: None,
        })
    }

    async fn wake(&mut self) -> Result<Duration> {
        self.made += 1;
        let copy = format!("{PARENT}-{}", self.made);
        let archive = self.archive();
        let began = Instant::now();
        let args = [
            "container",
            "restore",
            "--import",
            &archive,
            "--name",
            &copy,
        ];
        output(&quiet(&self.words(&args))).await?;
        let restored = began.elapsed();
        let said = process::run(&self.words(&["exec", &copy, "/bin/echo", "ready"])).await?;
        ensure!(said.bytes == 6, "it did not say `ready`");
        self.copies.push(copy);
        Ok(restored + said.first)
    }

    fn pss(&self) -> Result<f64> {
        pss::of(pss::named(&self.scratch.path().display().to_string()))
    }

    async fn touch(&mut self) -> Result<()> {
        let (hold, wait) = (hold("/tmp/more"), until_held("/tmp/more"));
        for copy in &self.copies {
            self.call(&["exec", "--detach", copy, "/bin/sh", "-c", &hold])
                .await?;
            self.call(&["exec", copy, "/bin/sh", "-c", &wait]).await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        for copy in std::mem::take(&mut self.copies) {
            self.call(&["rm", "--force", "--time", "0", &copy]).await?;
        }
        Ok(())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let command = self.words(&["rm", "--all", "--force", "--time", "0"]);
        let bounded = ["-s", "KILL", "30"];
        let _gone = std::process::Command::new("timeout")
            .args(bounded)
            .args(command)
            .output();
    }
}
