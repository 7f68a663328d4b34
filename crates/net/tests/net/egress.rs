//! The rules of one sandbox: what they open, what they close, and how long they hold.

use std::io::{self, ErrorKind, Read, Write};

use skerry_net::{Network, NetworkKind, Refusal};
use skerry_types::{Egress, SandboxId};
use tokio::sync::mpsc;

use crate::cases::{Case, lookup, nat, refusal};
use crate::world::{
    ANSWER, ECHO, Folder, HTTP, PRIVATE, PUBLIC, Process, TLS, connect, inside, options, question,
    reach, run, talk, with_network,
};

/// Every test by name.
pub(crate) const ALL: &[(&str, Case)] = &[
    ("a_name_opens_its_address", a_name_opens_its_address),
    (
        "an_address_has_to_be_asked_by_its_name",
        an_address_has_to_be_asked_by_its_name,
    ),
    (
        "addresses_and_networks_are_ruled",
        addresses_and_networks_are_ruled,
    ),
    (
        "new_rules_cut_what_they_forbid",
        new_rules_cut_what_they_forbid,
    ),
    ("rules_outlive_the_daemon", rules_outlive_the_daemon),
    (
        "rules_come_with_every_namespace",
        rules_come_with_every_namespace,
    ),
];

const EVERYTHING: &[&str] = &["0.0.0.0/0"];

fn only(allow: &[&str]) -> Egress {
    Egress::new(allow, EVERYTHING).unwrap()
}

async fn told(refusals: &mut mpsc::Receiver<Refusal>, to: &str, why: &str) {
    let refusal = refusal(refusals).await;
    assert_eq!(refusal.to(), to, "{refusal:?}");
    assert!(refusal.reason.contains(why), "{refusal:?}");
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0xf
}

fn a_name_opens_its_address() {
    with_network(
        |_| {},
        async |network| {
            let (sandbox, netns) = nat(&network).await;
            let gateway = netns.gateway;
            let mut refusals = network.refusals();
            network
                .rule(sandbox, only(&["good.example"]))
                .await
                .unwrap();
            inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap_err()).await;
            told(&mut refusals, "203.0.113.10:7", "do not allow this address").await;
            inside(&netns.fd, move || {
                let refused = lookup(gateway, &question("evil"));
                assert_eq!((code(&refused), refused[7]), (3, 0), "no such name");
            })
            .await;
            told(&mut refusals, "evil.example", "not allowed").await;
            inside(&netns.fd, move || {
                // What could hide the name that a program connects to.
                let mut service = question("good");
                let kind = service.len() - 3;
                service[kind] = 65;
                assert_eq!(lookup(gateway, &service)[6..8], [0, 0]);
                assert!(lookup(gateway, &question("GOOD")).ends_with(&ANSWER));
                reach(PUBLIC, ECHO).unwrap();
            })
            .await;
            let (_, other) = nat(&network).await;
            inside(&other.fd, || reach(PUBLIC, ECHO).unwrap()).await;
        },
    );
}

/// Sends a first message and hears whether it comes back.
fn greet(port: u16, greeting: &[u8]) -> io::Result<()> {
    let mut stream = connect(PUBLIC, port)?;
    stream.write_all(greeting)?;
    let mut heard = vec![0; greeting.len()];
    stream.read_exact(&mut heard)?;
    assert_eq!(heard, greeting);
    Ok(())
}

fn http(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// The first message of a TLS handshake that asks for this name.
fn tls(name: &str) -> Vec<u8> {
    let long = |bytes: Vec<u8>| [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
    let entry = [vec![0], long(name.as_bytes().to_vec())].concat();
    let extension = [vec![0, 0], long(long(entry))].concat();
    let ciphers = long(vec![0x13, 1]);
    let body = [
        vec![3, 3],
        vec![7; 32],
        vec![0],
        ciphers,
        vec![1, 0],
        long(extension),
    ]
    .concat();
    [vec![22, 3, 1], long([vec![1, 0], long(body)].concat())].concat()
}

fn an_address_has_to_be_asked_by_its_name() {
    with_network(
        |_| {},
        async |network| {
            let (sandbox, netns) = nat(&network).await;
            let gateway = netns.gateway;
            let mut refusals = network.refusals();
            network.rule(sandbox, only(&["*.example"])).await.unwrap();
            inside(&netns.fd, move || {
                lookup(gateway, &question("good"));
                greet(HTTP, &http("good.example")).unwrap();
                greet(TLS, &tls("Other.Example")).unwrap();
            })
            .await;
            for (port, greeting, why) in [
                (HTTP, http("evil.net"), "asked for evil.net"),
                (TLS, tls("evil.net"), "asked for evil.net"),
                (TLS, tls("example"), "asked for example"),
                (TLS, b"SSH-2.0-x\r\n\r\n".to_vec(), "must say one"),
            ] {
                let error = inside(&netns.fd, move || greet(port, &greeting).unwrap_err()).await;
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                told(&mut refusals, &format!("{PUBLIC}:{port}"), why).await;
            }
        },
    );
}

fn addresses_and_networks_are_ruled() {
    with_network(
        |_| {},
        async |network| {
            let (sandbox, netns) = nat(&network).await;
            let mut refusals = network.refusals();
            let rules = only(&["203.0.113.10", "10.0.0.0/8"]);
            network.rule(sandbox, rules).await.unwrap();
            inside(&netns.fd, || {
                reach(PUBLIC, ECHO).unwrap();
                greet(TLS, b"SSH-2.0-x\r\n").unwrap();
                reach(PRIVATE, ECHO).unwrap_err();
            })
            .await;
            told(&mut refusals, "10.9.9.9:7", "a private address").await;
            let some = Egress::new(&[], &["203.0.113.0/24"]).unwrap();
            network.rule(sandbox, some).await.unwrap();
            inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap_err()).await;
            told(&mut refusals, "203.0.113.10:7", "deny 203.0.113.0/24").await;
            network.rule(sandbox, Egress::default()).await.unwrap();
            inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap()).await;
        },
    );
}

fn new_rules_cut_what_they_forbid() {
    with_network(
        |_| {},
        async |network| {
            let (sandbox, netns) = nat(&network).await;
            let mut refusals = network.refusals();
            let gateway = netns.gateway;
            let [mut by_address, mut by_name] = inside(&netns.fd, move || {
                let mut by_address = connect(PUBLIC, ECHO).unwrap();
                talk(&mut by_address).unwrap();
                lookup(gateway, &question("good"));
                let mut by_name = connect(PUBLIC, ECHO).unwrap();
                talk(&mut by_name).unwrap();
                [by_address, by_name]
            })
            .await;
            network
                .rule(sandbox, only(&["good.example"]))
                .await
                .unwrap();
            let cut = by_address.read(&mut [0]).unwrap_err();
            assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
            told(&mut refusals, "203.0.113.10:7", "do not allow this address").await;
            talk(&mut by_name).unwrap();
            network.rule(sandbox, only(&[])).await.unwrap();
            let cut = by_name.read(&mut [0]).unwrap_err();
            assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
        },
    );
}

fn rules_outlive_the_daemon() {
    let dir = Folder::new();
    run(async {
        let before = Network::start(options(dir.path())).await.unwrap();
        let (sandbox, netns) = nat(&before).await;
        before.rule(sandbox, only(&[])).await.unwrap();
        drop(before);
        let after = Network::start(options(dir.path())).await.unwrap();
        inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap_err()).await;
        after.rule(sandbox, Egress::default()).await.unwrap();
        inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap()).await;
        after.stop().await.unwrap();
    });
}

fn rules_come_with_every_namespace() {
    with_network(
        |_| {},
        async |network| {
            let sandbox = SandboxId::new();
            network.rule(sandbox, only(&[])).await.unwrap();
            let acquire = async || network.acquire(NetworkKind::Nat, sandbox).await.unwrap();
            let closed = async |why: &str| {
                let netns = acquire().await;
                let refused = inside(&netns.fd, || reach(PUBLIC, ECHO)).await;
                assert!(refused.is_err(), "{why}");
            };
            closed("ruled before it had one").await;
            network.release(sandbox).await.unwrap();
            closed("it has another").await;
            let gateway = Process::open(network.facts().await.unwrap().pid);
            gateway.kill();
            gateway.wait_for_end();
            closed("from another gateway").await;
            network.release(sandbox).await.unwrap();
            network.forget_rules(sandbox);
            let netns = acquire().await;
            inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap()).await;
        },
    );
}
