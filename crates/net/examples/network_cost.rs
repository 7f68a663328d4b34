//! Measures what the network costs: handing out namespaces, and bytes through the relay.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement ends at the first surprise and reports on its terminal"
)]

#[expect(dead_code, reason = "the tests' world has more in it")]
#[path = "../tests/net/world.rs"]
mod world;

use std::io::Read;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use skerry_net::{Network, NetworkKind, gateway};
use skerry_types::SandboxId;

const ROUNDS: usize = 200;
const BYTES: u64 = 2 << 30;

fn main() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|role| role == "gateway") {
        gateway::main(args).unwrap();
        return;
    }
    world::enter();
    for (name, pool) in [("pool", 64), ("cold", 0)] {
        for kind in [NetworkKind::None, NetworkKind::Nat] {
            world::with_network(
                |options| options.config.pool = pool,
                async |network| acquire(&network, name, kind).await,
            );
        }
    }
    println!("host to internet: {:.0} MiB/s", receive(world::PUBLIC));
    world::with_network(|_| {}, async |network| relay(&network).await);
}

async fn acquire(network: &Network, name: &str, kind: NetworkKind) {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        // The pool fills up meanwhile.
        tokio::time::sleep(Duration::from_millis(3)).await;
        let sandbox = SandboxId::new();
        let start = Instant::now();
        drop(network.acquire(kind, sandbox).await.unwrap());
        times.push(start.elapsed());
        network.release(sandbox).await.unwrap();
    }
    times.sort();
    let [min, median, p95] = [0, ROUNDS / 2, ROUNDS * 95 / 100].map(|at| times[at]);
    println!("acquire {kind:?} {name}: min {min:?} median {median:?} p95 {p95:?}");
}

async fn relay(network: &Network) {
    let sandbox = SandboxId::new();
    let netns = network.acquire(NetworkKind::Nat, sandbox).await.unwrap();
    let rate = world::inside(&netns.fd, || receive(world::PUBLIC)).await;
    println!("sandbox to internet: {rate:.0} MiB/s");
}

/// MiB per second of one connection.
fn receive(from: Ipv4Addr) -> f64 {
    let mut stream = world::connect(from, world::SOURCE).unwrap();
    let mut buffer = vec![0; 128 * 1024];
    let (start, mut got) = (Instant::now(), 0);
    while got < BYTES {
        got += stream.read(&mut buffer).unwrap() as u64;
    }
    (got >> 20) as f64 / start.elapsed().as_secs_f64()
}
