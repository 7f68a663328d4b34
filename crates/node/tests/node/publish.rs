//! Ports of sandboxes at ports of the machine: port 7 of a simulated one gives back what it gets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use skerry_node::{Node, Publish};
use skerry_proto::node::{CreateSandbox, ForkSandbox, Map, MemoryWish, SandboxReport, Sandboxes};
use skerry_types::{ErrorCode, SandboxId, SandboxState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bed::{Bed, Daemon, Island, request};

const ECHO: u16 = 7;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How many of them tests of this process have looked at.
static LOOKED_AT: AtomicU16 = AtomicU16::new(0);

impl Bed {
    /// A bed whose nodes publish at this many ports that nobody else has.
    async fn publishing(ports: u16) -> Self {
        let mut bed = Self::new().await;
        // Below what the kernel gives to those who do not choose; tests of other processes begin elsewhere.
        let begin = 10_000 + (std::process::id() % 200) as u16 * 100;
        let is_free = |port: u16| TcpListener::bind((HERE, port)).is_ok();
        let first = loop {
            let first = begin + LOOKED_AT.fetch_add(ports, Ordering::Relaxed);
            if (first..first + ports).all(is_free) {
                break first;
            }
        };
        bed.publish = Some(Publish {
            address: HERE,
            ports: first..=first + ports - 1,
        });
        bed
    }
}

fn with_ports(ports: &[u16]) -> CreateSandbox {
    CreateSandbox {
        ports: ports.to_vec(),
        ..request(SandboxId::new())
    }
}

fn addresses(report: &SandboxReport) -> Vec<SocketAddr> {
    let facts = report.facts.iter();
    facts
        .flat_map(|facts| &facts.published)
        .map(|one| one.address)
        .collect()
}

/// Whether whoever connects there hears what he says, to its end.
async fn echoes(address: SocketAddr) -> bool {
    let Ok(mut client) = TcpStream::connect(address).await else {
        return false;
    };
    let said = vec![b'x'; 300_000];
    let (mut reader, mut writer) = client.split();
    let mut heard = Vec::new();
    let say = async {
        writer.write_all(&said).await?;
        writer.shutdown().await
    };
    let (said_all, heard_all) = tokio::join!(say, reader.read_to_end(&mut heard));
    said_all.is_ok() && heard_all.is_ok() && heard == said
}

/// Until nobody listens there any more.
async fn until_closed(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

async fn made(node: &Arc<Node>, ports: &[u16]) -> (Island, Vec<SocketAddr>) {
    let report = node.create(with_ports(ports)).await.unwrap();
    let island = Island {
        node: Arc::clone(node),
        id: report.id,
    };
    (island, addresses(&report))
}

#[tokio::test]
async fn whoever_connects_speaks_with_the_program() {
    let bed = Bed::publishing(4).await;
    let node = bed.node().await;
    let (first, at) = made(&node, &[ECHO, 8]).await;
    assert!(echoes(at[0]).await);
    assert!(!echoes(at[1]).await, "nothing listens at port 8");
    let (_second, other) = made(&node, &[ECHO]).await;
    assert!(echoes(other[0]).await);
    assert!(!at.contains(&other[0]));
    let clients: Vec<_> = (0..300).map(|_| echoes(at[0])).collect();
    let answers = futures::future::join_all(clients).await;
    assert!(
        answers.into_iter().all(|all| all),
        "more than may be connected at once"
    );
    let fork = ForkSandbox {
        egress: skerry_types::Egress::default(),
        parent: first.id,
        id: SandboxId::new(),
        env: Map::new(),
        name: None,
        memory: MemoryWish::Auto,
        base: None,
    };
    let child = node.fork(fork).await.unwrap();
    assert_eq!(
        addresses(&child),
        [],
        "a port of the machine leads to one sandbox"
    );
}

#[tokio::test]
async fn ports_are_given_back_at_stop_and_delete_and_not_before() {
    let bed = Bed::publishing(2).await;
    let node = bed.node().await;
    let (first, at) = made(&node, &[ECHO]).await;
    let (second, other) = made(&node, &[ECHO]).await;
    let refused = node.create(with_ports(&[ECHO])).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoCapacity);
    node.stop(first.id, None).await.unwrap();
    first.until(SandboxState::Stopped).await;
    until_closed(at[0]).await;
    assert_eq!(made(&node, &[ECHO]).await.1, at);
    node.delete(second.id).await.unwrap();
    until_closed(other[0]).await;
    assert_eq!(made(&node, &[ECHO]).await.1, other);
}

#[tokio::test]
async fn started_again_it_has_its_ports_as_far_as_they_are_free() {
    let bed = Bed::publishing(3).await;
    let node = bed.node().await;
    let (island, at) = made(&node, &[ECHO, 8]).await;
    let again = async || addresses(&node.start(island.id).await.unwrap());
    island.stop().await;
    assert_eq!(again().await, at);
    assert!(echoes(at[0]).await);
    island.stop().await;
    let _theirs = TcpListener::bind(at[0]).unwrap();
    let now = again().await;
    assert!(now[0] != at[0] && now[1] == at[1], "{at:?} {now:?}");
    assert!(echoes(now[0]).await);
}

#[tokio::test]
async fn what_another_program_has_is_passed_over() {
    let bed = Bed::publishing(3).await;
    let first = *bed.publish.as_ref().unwrap().ports.start();
    let _theirs = TcpListener::bind((HERE, first)).unwrap();
    let node = bed.node().await;
    let (_island, at) = made(&node, &[ECHO, 8]).await;
    assert_eq!(
        at,
        [first + 1, first + 2].map(|port| SocketAddr::new(HERE, port))
    );
}

#[tokio::test]
async fn a_sandbox_that_sleeps_wakes_up_and_one_that_is_paused_breaks_off() {
    let bed = Bed::publishing(2).await;
    let node = bed.node().await;
    for auto_resume in [false, true] {
        let request = CreateSandbox {
            auto_resume,
            ..with_ports(&[ECHO])
        };
        let report = node.create(request).await.unwrap();
        node.pause(report.id, None).await.unwrap();
        assert_eq!(echoes(addresses(&report)[0]).await, auto_resume);
    }
}

#[test]
fn a_port_on_record_stays_the_sandboxs_own_when_the_daemon_is_killed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bed = runtime.block_on(Bed::publishing(2));
    let daemon = Daemon::start(&bed);
    let at = daemon.run(async |node| made(&node, &[ECHO]).await.1);
    daemon.kill();
    assert!(!runtime.block_on(echoes(at[0])));
    // Another program has it when the next daemon comes, and lets go of it then.
    let theirs = TcpListener::bind(at[0]).unwrap();
    let daemon = Daemon::start(&bed);
    daemon.run(async |_| tokio::task::yield_now().await);
    drop(theirs);
    let other = daemon.run(async |node| made(&node, &[ECHO]).await.1);
    assert_ne!(other, at, "it is on record");
    daemon.kill();
    let daemon = Daemon::start(&bed);
    for address in [at[0], other[0]] {
        assert!(daemon.run(async |_| {
            while !echoes(address).await {
                tokio::task::yield_now().await;
            }
            true
        }));
    }
}
