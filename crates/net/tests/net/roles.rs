//! What this program can be when a test starts it again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use skerry_net::{Network, NetworkKind};
use skerry_types::SandboxId;

use crate::world::{ECHO, PRIVATE, PUBLIC, options, reach, run};

/// A role gets the arguments after its name.
pub(crate) type Role = fn(Vec<OsString>);

/// The role with this name.
pub(crate) fn find(name: &str) -> Option<Role> {
    match name {
        "gateway" => Some(gateway),
        "daemon" => Some(daemon),
        "ordinary-user" => Some(ordinary_user),
        "sandbox" => Some(sandbox),
        _ => None,
    }
}

fn gateway(args: Vec<OsString>) {
    skerry_net::gateway::main(args).unwrap();
}

/// Gives a sandbox both kinds of network, says how that went and waits to be killed.
fn daemon(args: Vec<OsString>) {
    let [dir, sandbox]: [OsString; 2] = args.try_into().unwrap();
    let sandbox: SandboxId = sandbox.to_str().unwrap().parse().unwrap();
    run(async {
        let network = Network::start(options(&PathBuf::from(dir))).await.unwrap();
        let none = network.acquire(NetworkKind::None, SandboxId::new()).await;
        let nat = network.acquire(NetworkKind::Nat, sandbox).await;
        println!(
            "none {} nat {}",
            none.map_or_else(|e| e.to_string(), |_| "ok".to_owned()),
            nat.map_or_else(|e| e.to_string(), |_| "ok".to_owned())
        );
        std::io::stdin().read_exact(&mut [0]).ok();
    });
}

/// Has a sandbox with a way out, without any privilege, even after its gateway was killed.
fn ordinary_user(args: Vec<OsString>) {
    let [dir]: [OsString; 1] = args.try_into().unwrap();
    assert!(!rustix::process::geteuid().is_root());
    run(async {
        let network = Network::start(options(&PathBuf::from(dir))).await.unwrap();
        let facts = network.facts().await.unwrap();
        assert!(facts.rootless);
        assert_eq!(facts.nat_unavailable, None);
        use_sandbox(&network).await;
        let gateway = crate::world::Process::open(facts.pid);
        gateway.kill();
        gateway.wait_for_end();
        use_sandbox(&network).await;
        network.stop().await.unwrap();
    });
    println!("fine");
}

async fn use_sandbox(network: &Network) {
    let netns = network
        .acquire(NetworkKind::Nat, SandboxId::new())
        .await
        .unwrap();
    let open = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
    let status = Command::new(std::env::current_exe().unwrap())
        .arg("sandbox")
        .arg(open(network.userns().unwrap().as_raw_fd()))
        .arg(open(netns.fd.as_raw_fd()))
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// Joins the user namespace, then the network namespace, as a spawner would.
fn sandbox(args: Vec<OsString>) {
    let [userns, netns]: [OsString; 2] = args.try_into().unwrap();
    let (userns, netns) = (File::open(userns).unwrap(), File::open(netns).unwrap());
    setns(userns, CloneFlags::CLONE_NEWUSER).unwrap();
    setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
    reach(PUBLIC, ECHO).unwrap();
    reach(PRIVATE, ECHO).unwrap_err();
    std::io::stdout().flush().unwrap();
}
