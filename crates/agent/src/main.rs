//! PID 1 of a sandbox. Runs commands, sessions and file work for its node over one byte stream (agent.v1), reaps what is
//! orphaned, and needs nothing from the image.
//!
//! One thread runs everything as tasks on one loop; only file work may block, and does so on a few small threads.

mod agent;
mod args;
mod boot;
mod dials;
mod exec;
mod files;
mod hold;
mod link;
mod outbox;
mod privilege;
mod procs;
mod pty;
mod reap;
mod renew;
mod session;
mod shutdown;
mod users;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use skerry_types::limits::KILL_GRACE_MS;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

use crate::agent::Agent;
use crate::args::Args;
use crate::link::Links;

/// What a thread for file work needs.
const FILE_THREAD_STACK: usize = 256 * 1024;
const FILE_THREAD_IDLE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody else can be told.
            let _: std::io::Result<()> = writeln!(std::io::stderr(), "skerry-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Box<dyn Error>> {
    let args = args::parse(std::env::args_os().skip(1))?;
    let links = Links::open(&args.source)?;
    boot::prepare()?;
    if let Some(file) = &args.forget {
        std::fs::remove_file(file)?;
    }
    privilege::confine_agent(args.level)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(files::THREADS)
        .thread_stack_size(FILE_THREAD_STACK)
        .thread_keep_alive(FILE_THREAD_IDLE)
        .build()?;
    LocalSet::new().block_on(&runtime, run(&args, links))?;
    // Work that still blocks ends with the process.
    runtime.shutdown_background();
    Ok(())
}

async fn run(args: &Args, links: Links) -> std::io::Result<()> {
    let agent = Agent::new(args.level);
    spawn_local(agent.reaper.clone().run());
    // As first process it would hear anyone inside; without a handler the kernel lets none through.
    if std::process::id() != 1 {
        spawn_local(stop_on_term(agent.clone()));
    }
    let serving = {
        let agent = agent.clone();
        spawn_local(async move {
            // Without a way to be reached there is nothing to live for.
            let _: std::io::Result<()> = links.serve(&agent).await;
            agent.stop(Duration::from_millis(KILL_GRACE_MS));
        })
    };
    let grace = agent.stopped().await;
    shutdown::end_all(&agent, grace).await;
    serving.abort();
    Ok(())
}

async fn stop_on_term(agent: Rc<Agent>) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    while term.recv().await.is_some() {
        agent.stop(Duration::from_millis(KILL_GRACE_MS));
    }
    Ok(())
}
