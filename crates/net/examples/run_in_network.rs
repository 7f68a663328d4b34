//! Runs a command in a sandbox's network: `run_in_network ALLOWED,NETWORKS COMMAND…`, as root.
#![expect(clippy::print_stderr, reason = "an example reports on its terminal")]

use std::error::Error;
use std::ffi::OsString;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use skerry_net::{Config, Network, NetworkKind, Options, gateway};
use skerry_types::SandboxId;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let first = args.next().ok_or("networks to allow, and a command")?;
    if first == "gateway" {
        return Ok(gateway::main(args)?);
    }
    let allowed = first.into_string().map_err(|_| "networks are text")?;
    let nets = allowed.split(',').filter(|net| !net.is_empty());
    let config = Config {
        egress_allow: nets.map(str::parse).collect::<Result<_, _>>()?,
        ..Config::default()
    };
    tokio::runtime::Runtime::new()?.block_on(run(config, args.collect()))
}

async fn run(config: Config, command: Vec<OsString>) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let network = Network::start(Options {
        command: vec![std::env::current_exe()?.into(), "gateway".into()],
        dir: dir.path().to_owned(),
        config,
    })
    .await?;
    let mut refusals = network.refusals();
    tokio::spawn(async move {
        while let Some(refused) = refusals.recv().await {
            eprintln!("refused {}: {}", refused.to(), refused.reason);
        }
    });
    let netns = network.acquire(NetworkKind::Nat, SandboxId::new()).await?;
    let resolv_conf = dir.path().join("resolv.conf");
    std::fs::write(&resolv_conf, netns.resolv_conf())?;
    let inside = std::thread::spawn(move || {
        setns(netns.fd, CloneFlags::CLONE_NEWNET)?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(
            Some(&resolv_conf),
            "/etc/resolv.conf",
            none,
            MsFlags::MS_BIND,
            none,
        )?;
        let program = command.first().ok_or(std::io::ErrorKind::InvalidInput)?;
        Command::new(program).args(&command[1..]).status()
    });
    let status = tokio::task::spawn_blocking(|| inside.join()).await?;
    eprintln!("{}", status.map_err(|_| "the command's thread panicked")??);
    network.stop().await?;
    Ok(())
}
