//! QEMU by hand: a machine with the same kernel and the same files in its memory, whose shell listens at the serial line. It has no disk.
//!
//! Its memory is a file in memory. To be kept it stops, its devices are written, the file is copied, and it goes on; a copy maps that privately.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::qmp::Monitor;
use super::tool::{Kept, Tool, hold, program, strings, tools, until_held};
use super::{MEMORY_MIB, PROCESSORS};
use crate::process::output;
use crate::pss;

/// The first process.
const INIT: &str = "#!/bin/sh
exec </dev/ttyS0 >/dev/ttyS0 2>/dev/null
export PATH=/bin
echo ready
while read -r line; do eval \"$line\"; done
";
/// A program says it, as everywhere. What it says is not what was typed.
const SPEAK: &str = "/bin/echo rea''dy\n";
const PATIENCE: Duration = Duration::from_mins(1);
const NODES: [(&str, u32, u32); 4] = [
    ("console", 5, 1),
    ("null", 1, 3),
    ("zero", 1, 5),
    ("ttyS0", 4, 64),
];

pub(super) struct Qemu {
    scratch: TempDir,
    command: Vec<String>,
    accelerator: String,
    parent: Machine,
    monitor: Monitor,
    copies: Vec<Machine>,
    made: usize,
}

/// One that runs; it is killed when dropped.
struct Machine(Child);

pub(super) async fn start(root: &Path, accelerator: &str) -> Result<Qemu> {
    let program = program("qemu", "usr/bin/qemu-system-x86_64", "qemu-system-x86_64")?;
    // In memory, so that it is copied as fast as can be.
    let scratch = TempDir::with_prefix_in("skerry-bench-qemu-", "/dev/shm")?;
    let folder = scratch.path();
    initial_files(root, folder).await?;
    let kernel = kernel()?.display().to_string();
    let files = folder.join("initial-files").display().to_string();
    let arguments = "quiet loglevel=0 reboot=t panic=-1 tsc=reliable no_timer_check random.trust_cpu=on mitigations=off";
    let (memory, processors) = (format!("{MEMORY_MIB}M"), PROCESSORS.to_string());
    let machine = "q35,vmport=off,hpet=off,smbus=off,sata=off,usb=off,memory-backend=memory";
    let mut command = strings(&[
        &program,
        "-accel",
        accelerator,
        "-cpu",
        "max",
        "-m",
        &memory,
        "-smp",
        &processors,
    ]);
    command.extend(strings(&[
        "-M", machine, "-display", "none", "-serial", "stdio",
    ]));
    command.extend(strings(&["-nodefaults", "-no-user-config", "-no-reboot"]));
    command.extend(strings(&[
        "-kernel", &kernel, "-initrd", &files, "-append", arguments,
    ]));
    for data in ["qemu", "seabios"] {
        let data = tools("qemu")?.join("usr/share").join(data);
        command.extend(strings(&["-L", &data.display().to_string()]));
    }
    let mut parent = Machine::start(&command, folder, "parent", true, &[])?;
    parent.until_ready().await?;
    let (hold, until_held) = (hold("/tmp/held"), until_held("/tmp/held"));
    parent
        .do_and_speak(&format!("{hold} &\n{until_held}"))
        .await?;
    let mut monitor = Monitor::connect(&folder.join("parent.monitor")).await?;
    monitor.leave_memory_out().await?;
    Ok(Qemu {
        scratch,
        command,
        accelerator: accelerator.to_owned(),
        parent,
        monitor,
        copies: Vec::new(),
        made: 0,
    })
}

/// The kernel that `scripts/tools.sh` fetched.
fn kernel() -> Result<PathBuf> {
    let boot = fs::read_dir(tools("kernel")?.join("boot"))
        .context("`scripts/tools.sh kernel` fetches a kernel")?;
    let mut files = boot.flatten().map(|entry| entry.path());
    let is_kernel = |path: &PathBuf| path.to_string_lossy().contains("/vmlinuz-");
    files.find(is_kernel).context("there is no kernel")
}

async fn initial_files(root: &Path, folder: &Path) -> Result<()> {
    let files = folder.join("files");
    output(&strings(&[
        "cp",
        "-a",
        &root.display().to_string(),
        &files.display().to_string(),
    ]))
    .await?;
    fs::write(files.join("init"), INIT)?;
    let mut script = format!(
        "set -e; cd {}; chmod 755 init; mkdir -p dev; ",
        files.display()
    );
    for (name, major, minor) in NODES {
        script += &format!("mknod dev/{name} c {major} {minor}; ");
    }
    script += "find . | cpio -o -H newc --quiet >../initial-files";
    output(&strings(&["sh", "-c", &script])).await?;
    Ok(())
}

impl Machine {
    /// Starts one whose memory is `<name>.memory`, and whose monitor `<name>.monitor`.
    fn start(
        command: &[String],
        folder: &Path,
        name: &str,
        shared: bool,
        more: &[&str],
    ) -> Result<Self> {
        let path = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
        let (memory, share) = (
            folder.join(if shared { "memory" } else { "kept" }),
            if shared { "on" } else { "off" },
        );
        let memory = format!(
            "memory-backend-file,id=memory,size={MEMORY_MIB}M,mem-path={},share={share}",
            memory.display()
        );
        let monitor = format!("unix:{},server=on,wait=off", path("monitor"));
        let child = Command::new(&command[0])
            .args(&command[1..])
            .args(["-object", &memory, "-qmp", &monitor])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self(child))
    }

    async fn until_ready(&mut self) -> Result<()> {
        let out = self.0.stdout.as_mut().context("no serial line")?;
        let mut said = Vec::new();
        let read = async {
            loop {
                if out.read_buf(&mut said).await? == 0 {
                    bail!("the machine ended");
                }
                if said.windows(5).any(|word| word == b"ready") {
                    return Ok(());
                }
            }
        };
        timeout(PATIENCE, read)
            .await
            .context("the machine says nothing")?
    }

    async fn do_and_speak(&mut self, command: &str) -> Result<()> {
        let line = self.0.stdin.as_mut().context("no serial line")?;
        line.write_all(format!("{command}\n{SPEAK}").as_bytes())
            .await?;
        self.until_ready().await
    }
}

#[async_trait]
impl Tool for Qemu {
    fn name(&self) -> String {
        format!("qemu ({})", self.accelerator)
    }

    /// It boots each time.
    fn cold_rounds(&self) -> usize {
        5
    }

    async fn cold(&mut self) -> Result<Option<Duration>> {
        let began = Instant::now();
        let folder = TempDir::with_prefix_in("skerry-bench-qemu-", "/dev/shm")?;
        let mut machine = Machine::start(&self.command, folder.path(), "cold", true, &[])?;
        machine.until_ready().await?;
        let took = began.elapsed();
        machine.0.kill().await?;
        Ok(Some(took))
    }

    async fn keep(&mut self) -> Result<Kept> {
        let path = |name| self.scratch.path().join(name);
        // Copies that map it still have the old one.
        drop(fs::remove_file(path("kept")));
        let began = Instant::now();
        self.monitor.save(&path("devices")).await?;
        let (from, to) = (path("memory"), path("kept"));
        let paths = [&from, &to].map(|path| path.display().to_string());
        output(&strings(&["cp", "--sparse=always", &paths[0], &paths[1]])).await?;
        self.monitor.call("cont", &json!({})).await?;
        let took = began.elapsed();
        Ok(Kept {
            took,
            stood: Some(took),
        })
    }

    async fn wake(&mut self) -> Result<Duration> {
        self.made += 1;
        let name = format!("copy-{}", self.made);
        let folder = self.scratch.path();
        let began = Instant::now();
        let mut copy =
            Machine::start(&self.command, folder, &name, false, &["-incoming", "defer"])?;
        let mut monitor = Monitor::connect(&folder.join(format!("{name}.monitor"))).await?;
        monitor.leave_memory_out().await?;
        let uri = json!({ "uri": format!("file:{}", folder.join("devices").display()) });
        monitor.call("migrate-incoming", &uri).await?;
        // Obeyed once it is there.
        while monitor.call("query-status", &json!({})).await?["status"] == "inmigrate" {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        monitor.call("cont", &json!({})).await?;
        copy.do_and_speak("").await?;
        let took = began.elapsed();
        self.copies.push(copy);
        Ok(took)
    }

    fn pss(&self) -> Result<f64> {
        let machines = self.copies.iter().chain([&self.parent]);
        pss::of(machines.filter_map(|machine| machine.0.id()))
    }

    async fn touch(&mut self) -> Result<()> {
        let command = format!("{} &\n{}", hold("/tmp/more"), until_held("/tmp/more"));
        for copy in &mut self.copies {
            copy.do_and_speak(&command).await?;
        }
        Ok(())
    }

    async fn clear(&mut self) -> Result<()> {
        for mut copy in self.copies.drain(..) {
            copy.0.kill().await?;
        }
        Ok(())
    }
}
