//! `skerry-bench memory [ns|gvisor|vm]`: what it costs to keep, wake up and fork a sandbox with its memory, beside the tool below it driven by hand.
//!
//! Each driver is measured by itself and has a table of its own. What is kept holds 32 MiB; a copy has come when a program that was started in it
//! has said a word.

mod criu;
mod ours;
mod podman;
mod qemu;
mod qmp;
mod ready;
mod runsc;
mod steps;
mod tool;
mod turn;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::machine::Machine;
use crate::peers::Peers;
use crate::report::Report;
use crate::results::{Results, Row, US};
use crate::{cache_dir, rootfs, say};
use tool::Tool;
use turn::{Shared, shared};

const DRIVERS: [&str; 3] = ["ns", "gvisor", "vm"];
const ROUNDS: usize = 12;
const COPIES: usize = 10;
/// What was needed for making them is given back by then.
const SETTLE: Duration = Duration::from_secs(1);
/// Whoever takes longer to begin hangs.
const START: Duration = Duration::from_mins(1);
/// Of a sandbox, and of a machine by hand. The rest of what is done by hand is held by no limits.
const MEMORY_MIB: u32 = 512;
/// The same; what a sandbox has unless its maker says something else.
const PROCESSORS: u32 = 2;

const BARE_CRIU: &str = "criu by hand keeps processes with numbers and names of their own and nothing else of a sandbox: no files, network or \
    limits. podman has it keep a whole container, in an archive.";
const DOCKER: &str = "docker takes part in creating only: it wakes up what it kept as the same container, not as a copy beside it.";

const COLD: Row = millis("create → first output, cold", None);
const KEEP: Row = millis("snapshot with memory, of a program that holds 32 MiB", None);
const STOOD: Row = millis("· for which what is kept stood still", None);
const WAKE: Row = millis("create from that snapshot → first output", None);
const FORK: Row = millis(
    "fork with memory → first output (by hand: keep, then wake)",
    Some("≤ 350 ns, 330 gvisor, 320 vm"),
);
const IDLE: Row = mib("PSS of each of ten idle copies");
const TOUCHED: Row = mib("· after a program in it touched 32 MiB more");

const fn millis(title: &'static str, reach: Option<&'static str>) -> Row {
    Row {
        title,
        unit: "ms",
        reach,
    }
}

const fn mib(title: &'static str) -> Row {
    Row {
        title,
        unit: "MiB",
        reach: None,
    }
}

/// Measures all drivers and writes a table of each; or the one that is named, and shows its table.
pub(crate) async fn run(folder: &Path, machine: &Machine, only: Option<&str>) -> Result<()> {
    if let Some(only) = only {
        ensure!(DRIVERS.contains(&only), "no such driver: {only}");
    }
    let files = Files::make().await?;
    let mut tables = Vec::new();
    for driver in DRIVERS {
        if only.is_none_or(|only| only == driver) {
            say(&format!("memory of {driver}"));
            let mut results = Results::default();
            let title = match measure(driver, &files, &mut results).await {
                Ok(title) => title,
                Err(error) => {
                    results.miss(US, format!("{error:#}"));
                    driver.to_owned()
                }
            };
            tables.push((title, results));
        }
    }
    let report = tables
        .iter()
        .fold(Report::new(machine), |report, (title, results)| {
            report.part(title, results)
        });
    say(&report.text()?);
    match only {
        Some(_) => Ok(()),
        None => report.write(folder, "memory", "memory"),
    }
}

/// What sandboxes and everybody else begin with.
struct Files {
    root: PathBuf,
    /// The same as an image.
    archive: Vec<u8>,
}

impl Files {
    async fn make() -> Result<Self> {
        let cache = cache_dir()?;
        let root = rootfs::make(&cache).await?;
        let scratch = TempDir::with_prefix("skerry-bench-")?;
        let archive = rootfs::archive(&cache, scratch.path()).await?;
        Ok(Self { root, archive })
    }
}

/// Measures one. Returns what stands above its table.
async fn measure(driver: &str, files: &Files, results: &mut Results) -> Result<String> {
    let (us, accelerator) = ours::start(driver, files.archive.clone()).await?;
    let mut tools = vec![shared(us)];
    tools.extend(by_hand(driver, files, accelerator.as_deref(), results).await);
    let containers = match driver {
        "ns" => Peers::set_up(&["docker"], results).await?,
        _ => Peers::default(),
    };
    turn::race(&mut tools, &containers.all, results).await?;
    for tool in &tools {
        let mut tool = tool.lock().await;
        if let Err(error) = copies(&mut *tool, results).await {
            results.miss(&tool.name(), format!("{error:#}"));
        }
        results.notes.extend(tool.notes());
    }
    // The control group that they share goes last.
    drop(tools);
    drop(containers);
    ready::measure(driver, files.archive.clone(), results).await?;
    Ok(match accelerator.as_deref() {
        Some("tcg") => format!(
            "{driver}, without KVM: every figure is of a machine whose instructions QEMU translates (TCG), which takes several times as long"
        ),
        Some(accelerator) => format!("{driver} ({accelerator})"),
        None => driver.to_owned(),
    })
}

/// What lies below a driver, and whoever else can do the same.
async fn by_hand(
    driver: &str,
    files: &Files,
    accelerator: Option<&str>,
    results: &mut Results,
) -> Vec<Shared> {
    let tools: Vec<(&str, Result<Shared>)> = match driver {
        "ns" => {
            results.notes.push(BARE_CRIU.to_owned());
            results.notes.push(DOCKER.to_owned());
            let (criu, podman) = (criu::start(), podman::start());
            vec![("criu", begun(criu).await), ("podman", begun(podman).await)]
        }
        "gvisor" => vec![("runsc", begun(runsc::start(&files.root)).await)],
        _ => {
            let accelerator = accelerator.unwrap_or("tcg");
            let qemu = qemu::start(&files.root, accelerator);
            vec![("qemu", begun(qemu).await)]
        }
    };
    let mut fit = Vec::new();
    for (name, tool) in tools {
        match tool {
            Ok(tool) => fit.push(tool),
            Err(error) => results.miss(name, format!("{error:#}")),
        }
    }
    fit
}

async fn begun<T: Tool + 'static>(start: impl Future<Output = Result<T>>) -> Result<Shared> {
    let begun = timeout(START, start).await;
    let begun = begun.with_context(|| format!("not begun after {START:?}"))?;
    begun.map(shared)
}

/// The memory of copies.
async fn copies(tool: &mut dyn Tool, results: &mut Results) -> Result<()> {
    let name = tool.name();
    tool.keep().await?;
    sleep(SETTLE).await;
    let before = tool.pss()?;
    for _ in 0..COPIES {
        tool.wake().await?;
    }
    sleep(SETTLE).await;
    let each = |with: f64| (with - before) / COPIES as f64;
    results.add(IDLE, &name, each(tool.pss()?));
    tool.touch().await?;
    sleep(SETTLE).await;
    results.add(TOUCHED, &name, each(tool.pss()?));
    tool.clear().await
}
