//! `skerry up`: control and node in one process, with SQLite and no other service.

mod background;
mod doors;
mod drivers;
mod images;
mod machine;
mod parse;
mod pulls;

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use skerry_control::{Control, Nodes, Settings};
use skerry_http::App;
use skerry_node::{Node, Options, Publish};
use skerry_store::{Location, Store};
use skerry_sys::exec;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::output;
use crate::data_dir::DataDir;
use crate::{Global, env, log};

pub(crate) use background::{DownArgs, down};
pub(crate) use machine::Machine;

use doors::{DoorArgs, Doors};
use machine::Borders;

/// Run a server on this machine
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry up
  skerry up --detach
  skerry up --tls-listen 127.0.0.1:7443
  skerry up --listen 127.0.0.1:0 --data-dir /tmp/skerry")]
pub(crate) struct UpArgs {
    /// Run in the background, and return once it listens; `skerry down` ends it
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    doors: DoorArgs,
    /// `postgres://…` or the path of an SQLite file; one in the data folder unless said
    #[arg(long, env = env::DATABASE_URL, value_name = "URL", hide_env_values = true, value_parser = parse::database)]
    database: Option<String>,
    /// Where ports of sandboxes are published when they ask for it: `FIRST-LAST`, on loopback unless an address stands before, as in `0.0.0.0:8000-8999`
    #[arg(long, env = env::PUBLISH, hide_env_values = true, value_name = "PORTS", default_value = "8000-8999", value_parser = parse::publish)]
    publish: Publish,
    #[command(flatten)]
    borders: Borders,
    /// Sandboxes that run at once
    #[arg(long, env = env::SLOTS, hide_env_values = true, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    slots: u32,
    /// Sandboxes of one kind to keep ready for the next create; 0: each is made when it is asked for
    #[arg(long, env = env::READY, hide_env_values = true, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=64))]
    ready: u32,
    /// Half-made sandboxes to keep for creates and forks of any kind; 0: none
    #[arg(long, env = env::PREPARED, hide_env_values = true, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=64))]
    prepared: u32,
    /// What the records of all sandboxes may take of the disk, in MiB; a tenth of it, 20 GiB at most, unless said
    #[arg(long, env = env::JOURNALS_MB, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    journals_mb: Option<u64>,
    /// Host names to answer to, beside loopback names
    #[arg(long, env = env::DOMAINS, hide_env_values = true, value_name = "NAME", value_delimiter = ',', value_parser = parse::domain)]
    domains: Vec<String>,
    /// Origins whose pages may call this server
    #[arg(long, env = env::ORIGINS, hide_env_values = true, value_name = "ORIGIN", value_delimiter = ',', value_parser = parse::origin)]
    origins: Vec<String>,
}

pub(crate) fn main(global: &Global, args: UpArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::choose(global.data_dir.as_deref())?;
    data_dir.create()?;
    if args.detach {
        return background::detach(global, &data_dir);
    }
    log::start()?;
    exec::open_many_files().context("cannot raise the limit of open files")?;
    let why_one_id = skerry_driver_ns::enter_users(data_dir.path())
        .err()
        .map(|error| error.to_string());
    // While there is one thread: what a server mounts is its own, and is gone when it is.
    machine::enter_private_mounts()?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(data_dir, args, why_one_id))
}

async fn run(data_dir: DataDir, args: UpArgs, why_one_id: Option<String>) -> anyhow::Result<()> {
    let doors = Doors::open(&args.doors, &data_dir, &args.domains).await?;
    let machine = Machine::open(&data_dir, &args.borders, why_one_id).await?;
    let served = Box::pin(serve(doors, &machine, &data_dir, args)).await;
    // Also after a start that failed: what was started for it does not stay.
    machine.close().await;
    tracing::info!("ended");
    served
}

/// Until it is told to end.
async fn serve(
    doors: Doors,
    machine: &Machine,
    data_dir: &DataDir,
    args: UpArgs,
) -> anyhow::Result<()> {
    let node = Node::start(Options {
        data_dir: data_dir.path().to_owned(),
        drivers: machine.drivers.clone(),
        images: Arc::clone(&machine.images),
        gate: machine.gate(),
        storage: Some(Arc::clone(&machine.storage)),
        ready: machine::ready_limits(args.ready, args.prepared),
        journal_bytes: args.journals_mb.map(|mb| mb << 20),
        publish: Some(args.publish.clone()),
    })
    .await?;
    let served = serve_node(doors, machine, data_dir, args, Arc::clone(&node)).await;
    node.close().await;
    served
}

async fn serve_node(
    doors: Doors,
    machine: &Machine,
    data_dir: &DataDir,
    args: UpArgs,
    node: Arc<Node>,
) -> anyhow::Result<()> {
    machine.note_refusals(Arc::clone(&node));
    let location = match &args.database {
        Some(url) => url.parse()?,
        None => Location::Sqlite(data_dir.database()),
    };
    let store = Store::open(&location)
        .await
        .context("cannot open the database")?;
    let images = Arc::new(images::Service::new(Arc::clone(&machine.images)));
    let nodes = Nodes::new(vec![machine.member(node, args.slots)]);
    let control = Control::start(store, nodes, images.clone(), settings(machine, data_dir)).await?;
    control.ensure_local_key(&data_dir.key_file()).await?;
    let tls_url = doors.tls_url();
    data_dir.announce(&doors.url, tls_url.as_deref())?;
    for url in std::iter::once(&doors.url).chain(&tls_url) {
        // Whoever started us may wait for it, or not care.
        let _gone = output::line(url);
        tracing::info!(url, data_dir = %data_dir.path().display(), "listening");
    }
    let http = skerry_http::Settings {
        domains: args.domains,
        origins: args.origins,
        ca: doors.ca().map(str::to_owned),
        ..skerry_http::Settings::default()
    };
    let app = App::new(control.clone(), images, http);
    let ending = on_end(control.clone())?;
    let router = skerry_e2b::front(app.clone());
    doors.serve(app, router, ending).await;
    data_dir.withdraw();
    Ok(())
}

fn settings(machine: &Machine, data_dir: &DataDir) -> Settings {
    Settings {
        default_image: "host".to_owned(),
        default_network: if machine.has_nat() { "nat" } else { "none" }.to_owned(),
        uploads: Some(data_dir.uploads()),
        ..Settings::default()
    }
}

/// Cancelled on SIGTERM or SIGINT, once control took nothing new and what was in progress is done.
fn on_end(control: Control) -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let ending = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("ending");
        control.drain().await;
        ending.cancel();
    });
    Ok(token)
}
