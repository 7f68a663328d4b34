//! `make bench`: how fast this release is, beside other runtimes on the same machine in the same run.
//!
//! Everything of ours goes through the public HTTP API of a real `skerry up`. What is compared takes turns round by round, so that a machine
//! that slows down slows everyone down. `skerry-bench memory [ns|gvisor|vm]` measures snapshots and forks with memory, beside the tools that they
//! rest on; `skerry-bench PART` and one driver alone are shown and not written.

mod api;
mod machine;
mod memory;
mod ours;
mod peers;
mod process;
mod pss;
mod race;
mod report;
mod results;
mod rootfs;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use skerry_sys::exec::hand_over;
use skerry_testkit::server::Launch;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::Api;
use crate::machine::Machine;
use crate::peers::Peers;
use crate::report::Report;
use crate::results::Results;

/// As a server has them unless told otherwise.
const PREPARED: u32 = 4;
/// More than any row needs at once.
const SLOTS: u32 = 1000;

#[expect(clippy::print_stderr, reason = "for a person at a terminal")]
fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    // While there is one thread: what other runtimes mount stays out of the machine's own table, and what we were started with is none of theirs.
    machine::enter_private_mounts()?;
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    hand_over(&[input.as_fd(), output.as_fd(), errors.as_fd()])?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let (mut term, mut int) = (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            );
            // Whoever is dropped ends what it started.
            tokio::select! {
                done = run() => done,
                _ = term.recv() => bail!("ended by a signal"),
                _ = int.recv() => bail!("interrupted"),
            }
        })
}

async fn run() -> Result<()> {
    let results_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let machine = Machine::look().await;
    let mut args = std::env::args().skip(1);
    let only = args.next();
    if only.as_deref() == Some("memory") {
        let driver = args.next();
        return memory::run(&results_dir, &machine, driver.as_deref()).await;
    }
    let server =
        tokio::task::spawn_blocking(|| launch()?.env("SKERRY_SLOTS", &SLOTS).start()).await??;
    let mut results = Results::default();
    let peers = Peers::set_up(&peers::ALL, &mut results).await?;
    let api = Api::new(server.url(), server.key())?;
    ours::measure(&api, &server, &peers, &mut results, only.as_deref()).await?;
    drop(peers);
    let report = Report::new(&machine).part("", &results);
    say(&report.text()?);
    match only {
        Some(_) => Ok(()),
        None => report.write(&results_dir, "latest", &machine.slug()),
    }
}

/// A server as it is unless told otherwise, but that nothing of one kind stands ready.
pub(crate) fn launch() -> Result<Launch> {
    Ok(Launch::new(program()?).env("SKERRY_PREPARED", &PREPARED))
}

/// The server's program, built beside this one.
pub(crate) fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("skerry");
    if !program.is_file() {
        bail!("{} is not there: `make bench` builds it", program.display());
    }
    Ok(program)
}

/// Says on stderr what is being measured.
#[expect(clippy::print_stderr, reason = "for a person at a terminal")]
fn say(what: &str) {
    eprintln!("bench: {what}");
}

/// A folder for what is made once and used again in later runs.
fn cache_dir() -> Result<PathBuf> {
    let dir = cache_home()?.join("skerry-bench");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Where this user's caches are.
fn cache_home() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    base.or_else(home).context("no HOME")
}
