//! The tests.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sha2::{Digest, Sha256};
use skerry_net::{Error, Netns, Network, NetworkKind, Refusal};
use skerry_sys::netlink::Netlink;
use skerry_types::SandboxId;
use tokio::sync::mpsc;

use crate::world::{
    ANSWER, ECHO, Folder, HOST, METADATA, MIRROR, NAMES, PATIENCE, PRIVATE, PUBLIC, Process,
    SOURCE, asked_under, connect, inside, options, question, reach, read_frame, run, talk,
    with_network, write_frame,
};

/// A test.
pub(crate) type Case = fn();

/// Every test by name.
pub(crate) const ALL: &[(&str, Case)] = &[
    ("only_the_allowed_is_reached", only_the_allowed_is_reached),
    (
        "nobody_speaks_in_the_name_of_another",
        nobody_speaks_in_the_name_of_another,
    ),
    (
        "without_network_there_is_a_loopback",
        without_network_there_is_a_loopback,
    ),
    (
        "names_are_resolved_by_the_hosts_servers",
        names_are_resolved_by_the_hosts_servers,
    ),
    (
        "names_are_asked_for_under_ids_that_nobody_inside_chose",
        names_are_asked_for_under_ids_that_nobody_inside_chose,
    ),
    ("name_servers_may_change", name_servers_may_change),
    (
        "no_name_server_is_an_answer_too",
        no_name_server_is_an_answer_too,
    ),
    (
        "many_connections_carry_every_byte",
        many_connections_carry_every_byte,
    ),
    (
        "one_sandbox_cannot_take_all_connections",
        one_sandbox_cannot_take_all_connections,
    ),
    (
        "a_released_sandbox_is_cut_off",
        a_released_sandbox_is_cut_off,
    ),
    ("a_full_subnet_is_an_error", a_full_subnet_is_an_error),
    ("a_killed_gateway_is_replaced", a_killed_gateway_is_replaced),
    (
        "connections_survive_the_daemon",
        connections_survive_the_daemon,
    ),
    ("an_unused_gateway_leaves", an_unused_gateway_leaves),
    (
        "a_gateway_without_its_folder_leaves",
        a_gateway_without_its_folder_leaves,
    ),
    (
        "without_nft_there_is_no_way_out",
        without_nft_there_is_no_way_out,
    ),
    (
        "a_gateway_that_cannot_start_says_why",
        a_gateway_that_cannot_start_says_why,
    ),
    (
        "a_new_daemon_brings_its_rules",
        a_new_daemon_brings_its_rules,
    ),
    (
        "an_ordinary_user_has_all_of_it",
        an_ordinary_user_has_all_of_it,
    ),
];

/// Those that become another user.
pub(crate) const NEED_ROOT: &[&str] = &["an_ordinary_user_has_all_of_it"];

/// A sandbox with a way out.
pub(crate) async fn nat(network: &Network) -> (SandboxId, Netns) {
    let sandbox = SandboxId::new();
    let netns = network.acquire(NetworkKind::Nat, sandbox).await.unwrap();
    (sandbox, netns)
}

/// What was refused next.
pub(crate) async fn refusal(refusals: &mut mpsc::Receiver<Refusal>) -> Refusal {
    let next = tokio::time::timeout(PATIENCE, refusals.recv()).await;
    next.unwrap().unwrap()
}

fn only_the_allowed_is_reached() {
    let allow_the_hosts_network = |options: &mut skerry_net::Options| {
        let net = "198.51.100.0/24".parse().unwrap();
        options.config.egress_allow.push(net);
    };
    with_network(allow_the_hosts_network, async |network| {
        let (sandbox, netns) = nat(&network).await;
        let (_, other) = nat(&network).await;
        let (neighbour, gateway) = (other.address.unwrap(), netns.gateway);
        inside(&other.fd, || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 4000)).unwrap();
            std::thread::spawn(move || listener.accept());
        })
        .await;
        inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap()).await;

        let mut refusals = network.refusals();
        for (address, port, why) in [
            (PRIVATE, ECHO, "egress_allow"),
            (METADATA, ECHO, "metadata"),
            (HOST, ECHO, "host"),
            (neighbour, 4000, "sandbox network"),
            (gateway, 1, "sandbox network"),
            (gateway, 22, "sandbox network"),
            (Ipv4Addr::new(10, 255, 255, 53), 80, "private"),
        ] {
            let error = inside(&netns.fd, move || reach(address, port)).await;
            let kind = error.unwrap_err().kind();
            assert!(
                matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                "{address}:{port}: {kind}"
            );
            let refusal = refusal(&mut refusals).await;
            assert_eq!(refusal.sandbox, sandbox);
            assert_eq!(refusal.to(), format!("{address}:{port}"));
            assert!(refusal.reason.contains(why), "{refusal:?}");
        }
        inside(&netns.fd, only_tcp_and_names_leave).await;
    });
}

fn only_tcp_and_names_leave() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((PUBLIC, ECHO)).unwrap();
    socket.send(b"anyone?").unwrap();
    let error = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable, "refused at once");
    let v6 = Ipv6Addr::from_bits(0x2606_4700 << 96 | 1);
    let error = TcpStream::connect((v6, 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

/// Even who may change the interfaces, as a virtual machine's monitor can.
fn nobody_speaks_in_the_name_of_another() {
    with_network(
        |_| {},
        async |network| {
            let (_, netns) = nat(&network).await;
            let (_, other) = nat(&network).await;
            let (gateway, neighbour) = (netns.gateway, other.address.unwrap());
            let listening = inside(&other.fd, move || {
                let socket = UdpSocket::bind((neighbour, 5000)).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket
            })
            .await;
            inside(&netns.fd, move || {
                let mut netlink = Netlink::open().unwrap();
                let eth0 = netlink.index_of("eth0").unwrap();
                netlink.add_address(eth0, neighbour, 32).unwrap();
                let spoofed = UdpSocket::bind((neighbour, 5000)).unwrap();
                spoofed
                    .send_to(&question("spoofed"), (gateway, 53))
                    .unwrap();
                // An answer to a later question: the earlier one is dealt with.
                assert!(lookup(gateway, &question("honest")).ends_with(&ANSWER));
            })
            .await;
            let error = listening.recv(&mut [0; 64]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            inside(&other.fd, || reach(PUBLIC, ECHO).unwrap()).await;
        },
    );
}

fn without_network_there_is_a_loopback() {
    with_network(
        |_| {},
        async |network| {
            let sandbox = SandboxId::new();
            let netns = network.acquire(NetworkKind::None, sandbox).await.unwrap();
            assert_eq!((netns.address, netns.resolv_conf()), (None, String::new()));
            inside(&netns.fd, || {
                let names: Vec<String> = nix::ifaddrs::getifaddrs()
                    .unwrap()
                    .map(|i| i.interface_name)
                    .collect();
                assert!(names.iter().all(|name| name == "lo"), "{names:?}");
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).unwrap();
                TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                TcpListener::bind((Ipv6Addr::LOCALHOST, 80)).unwrap();
                let error = connect(PUBLIC, ECHO).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
            })
            .await;
            let again = network.acquire(NetworkKind::Nat, sandbox).await;
            assert!(matches!(again, Err(Error::OtherKind)));
        },
    );
}

/// The answer of a name server.
pub(crate) fn lookup(server: Ipv4Addr, question: &[u8]) -> Vec<u8> {
    ask(&resolver(server), question)
}

fn resolver(server: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect((server, 53)).unwrap();
    socket
}

fn ask(resolver: &UdpSocket, question: &[u8]) -> Vec<u8> {
    resolver.send(question).unwrap();
    let mut answer = vec![0; 4096];
    let length = resolver.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

fn names_are_resolved_by_the_hosts_servers() {
    with_network(
        |_| {},
        async |network| {
            let (_, netns) = nat(&network).await;
            let gateway = netns.gateway;
            assert_eq!(netns.resolv_conf(), format!("nameserver {gateway}\n"));
            inside(&netns.fd, move || {
                for server in [gateway, Ipv4Addr::new(8, 8, 8, 8)] {
                    let answer = lookup(server, &question("small"));
                    assert!(answer.ends_with(&ANSWER), "{server}");
                }
                let cut = lookup(gateway, &question("big"));
                assert_eq!(cut[2] & 0x02, 0x02, "truncation is passed on");
                let mut stream = connect(gateway, 53).unwrap();
                for label in ["big", "small"] {
                    write_frame(&mut stream, &question(label)).unwrap();
                    assert!(read_frame(&mut stream).unwrap().ends_with(&ANSWER));
                }
                let malformed = lookup(gateway, &question("cut")[..20]);
                assert_eq!(malformed[3] & 0xf, 1, "a format error");
            })
            .await;
        },
    );
}

fn names_are_asked_for_under_ids_that_nobody_inside_chose() {
    with_network(
        |_| {},
        async |network| {
            let (_, netns) = nat(&network).await;
            let gateway = netns.gateway;
            inside(&netns.fd, move || {
                let question = question("id");
                let mut stream = connect(gateway, 53).unwrap();
                let mut over_tcp = || {
                    write_frame(&mut stream, &question).unwrap();
                    read_frame(&mut stream).unwrap()
                };
                let answers = [lookup(gateway, &question), over_tcp(), over_tcp()];
                let ids = answers.map(|answer| {
                    assert_eq!(answer[..2], question[..2], "the answer to what was asked");
                    asked_under(&answer)
                });
                assert!(ids.iter().any(|id| id[..] != question[..2]), "{ids:?}");
                assert!(ids.iter().any(|id| *id != ids[0]), "{ids:?}");
            })
            .await;
        },
    );
}

fn no_name_server_is_an_answer_too() {
    let point_to_nobody = |options: &mut skerry_net::Options| {
        std::fs::write(
            &options.config.resolv_conf,
            format!("nameserver {PUBLIC}\n"),
        )
        .unwrap();
    };
    with_network(point_to_nobody, async |network| {
        let (_, netns) = nat(&network).await;
        let gateway = netns.gateway;
        inside(&netns.fd, move || {
            let answer = lookup(gateway, &question("any"));
            assert_eq!(answer[3] & 0xf, 2, "a server failure");
            let mut stream = connect(gateway, 53).unwrap();
            write_frame(&mut stream, &question("any")).unwrap();
            assert_eq!(read_frame(&mut stream).unwrap()[3] & 0xf, 2);
        })
        .await;
    });
}

fn name_servers_may_change() {
    let resolv_conf = RefCell::new(PathBuf::new());
    let point_to_nobody = |options: &mut skerry_net::Options| {
        let path = options.config.resolv_conf.clone();
        std::fs::write(&path, "nameserver 127.0.0.9\n").unwrap();
        resolv_conf.replace(path);
    };
    with_network(point_to_nobody, async |network| {
        let (_, netns) = nat(&network).await;
        let gateway = netns.gateway;
        // As most programs do it: another file takes the place of the one before.
        let path = resolv_conf.borrow().clone();
        let new = path.with_extension("new");
        std::fs::write(&new, format!("nameserver {NAMES}\n")).unwrap();
        std::fs::rename(new, path).unwrap();
        inside(&netns.fd, move || {
            // One socket: each is tracked for a while, and a sandbox may have so many.
            let resolver = resolver(gateway);
            while !ask(&resolver, &question("small")).ends_with(&ANSWER) {
                std::thread::yield_now();
            }
        })
        .await;
    });
}

/// The server answers only after the end of the question, so this needs half-closing.
fn send_and_compare(size: usize, seed: u8) {
    let sent: Vec<u8> = (0..size).map(|i| (i % 251) as u8 ^ seed).collect();
    let mut stream = connect(PUBLIC, MIRROR).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(Sha256::digest(got), Sha256::digest(sent));
}

fn many_connections_carry_every_byte() {
    with_network(
        |_| {},
        async |network| {
            let (_, netns) = nat(&network).await;
            inside(&netns.fd, || {
                send_and_compare(64 << 20, 0);
                std::thread::scope(|scope| {
                    for seed in 0..50 {
                        scope.spawn(move || send_and_compare(100_000, seed));
                    }
                });
            })
            .await;
            let held = network.list().await.unwrap();
            assert_eq!(held.len(), 1);
        },
    );
}

fn one_sandbox_cannot_take_all_connections() {
    let two = |options: &mut skerry_net::Options| options.config.connections_per_sandbox = 2;
    with_network(two, async |network| {
        let (_, netns) = nat(&network).await;
        let (_, other) = nat(&network).await;
        let mut refusals = network.refusals();
        let open = inside(&netns.fd, || {
            let mut open = [(); 2].map(|()| connect(PUBLIC, ECHO).unwrap());
            for stream in &mut open {
                talk(stream).unwrap();
            }
            reach(PUBLIC, ECHO).unwrap_err();
            open
        })
        .await;
        let refusal = refusal(&mut refusals).await;
        assert!(refusal.reason.contains("too many"), "{refusal:?}");
        inside(&other.fd, || reach(PUBLIC, ECHO).unwrap()).await;
        drop(open);
    });
}

fn a_released_sandbox_is_cut_off() {
    with_network(
        |_| {},
        async |network| {
            let (sandbox, netns) = nat(&network).await;
            let mut open = inside(&netns.fd, || connect(PUBLIC, SOURCE).unwrap()).await;
            open.read_exact(&mut [0; 4096]).unwrap();
            network.release(sandbox).await.unwrap();
            network.release(sandbox).await.unwrap();
            assert!(network.list().await.unwrap().is_empty());
            let ended = io::copy(&mut open.take(1 << 30), &mut io::sink()).unwrap_err();
            assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
            inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap_err()).await;
        },
    );
}

fn a_full_subnet_is_an_error() {
    let tiny = |options: &mut skerry_net::Options| {
        options.config.subnet = "10.77.0.0/29".parse().unwrap();
    };
    with_network(tiny, async |network| {
        let mut taken = Vec::new();
        let error = loop {
            match network.acquire(NetworkKind::Nat, SandboxId::new()).await {
                Ok(netns) => taken.push(netns),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoAddress), "{error}");
        // Two of the five may wait in the pool.
        assert!((3..=5).contains(&taken.len()), "{}", taken.len());
    });
}

fn a_killed_gateway_is_replaced() {
    with_network(
        |_| {},
        async |network| {
            let (_, before) = nat(&network).await;
            let first = network.facts().await.unwrap().pid;
            let gateway = Process::open(first);
            gateway.kill();
            gateway.wait_for_end();
            let (sandbox, after) = nat(&network).await;
            assert_ne!(network.facts().await.unwrap().pid, first);
            inside(&after.fd, || reach(PUBLIC, ECHO).unwrap()).await;
            inside(&before.fd, || reach(PUBLIC, ECHO).unwrap_err()).await;
            let held = network.list().await.unwrap();
            assert_eq!(held.len(), 1);
            assert_eq!(held[0].sandbox, sandbox);
        },
    );
}

/// Starts this program again in a role.
fn start(role: &str, args: &[&str], change: impl FnOnce(&mut Command)) -> (Child, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(role).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    change(&mut command);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, line)
}

fn connections_survive_the_daemon() {
    let dir = Folder::new();
    let sandbox = SandboxId::new();
    let args = [dir.path().to_str().unwrap(), &sandbox.to_string()];
    let (mut daemon, said) = start("daemon", &args, |_| {});
    assert_eq!(said, "none ok nat ok\n");
    run(async {
        let network = Network::start(options(dir.path())).await.unwrap();
        let netns = network.acquire(NetworkKind::Nat, sandbox).await.unwrap();
        let mut stream = inside(&netns.fd, || connect(PUBLIC, ECHO).unwrap()).await;
        talk(&mut stream).unwrap();
        let pid = network.facts().await.unwrap().pid;
        drop(network);
        daemon.kill().unwrap();
        daemon.wait().unwrap();

        talk(&mut stream).unwrap();
        let network = Network::start(options(dir.path())).await.unwrap();
        assert_eq!(network.facts().await.unwrap().pid, pid);
        assert_eq!(network.list().await.unwrap().len(), 2);
        let again = network.acquire(NetworkKind::Nat, sandbox).await.unwrap();
        assert_eq!(again.address, netns.address);
        talk(&mut stream).unwrap();
        network.stop().await.unwrap();
    });
}

fn an_unused_gateway_leaves() {
    let dir = Folder::new();
    let mut options = options(dir.path());
    options.config.linger_seconds = 0;
    run(async {
        let network = Network::start(options).await.unwrap();
        let (sandbox, _netns) = nat(&network).await;
        let gateway = Process::open(network.facts().await.unwrap().pid);
        network.release(sandbox).await.unwrap();
        drop(network);
        gateway.wait_for_end();
    });
    assert!(!dir.socket().exists());
}

fn a_gateway_without_its_folder_leaves() {
    let dir = Folder::new();
    run(async {
        let network = Network::start(options(dir.path())).await.unwrap();
        let _sandbox = nat(&network).await;
        let gateway = Process::open(network.facts().await.unwrap().pid);
        std::fs::remove_dir_all(dir.path().join("net")).unwrap();
        gateway.wait_for_end();
    });
}

fn without_nft_there_is_no_way_out() {
    let dir = Folder::new();
    let fake = dir.path().join("nft");
    std::fs::write(&fake, "#!/bin/sh\necho 'no such thing' >&2\nexit 1\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&fake, executable).unwrap();
    let args = [dir.path().to_str().unwrap(), &SandboxId::new().to_string()];
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let (mut daemon, said) = start("daemon", &args, |command| {
        command.env("PATH", path);
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(
        said.starts_with("none ok nat this machine cannot"),
        "{said}"
    );
    assert!(said.contains("no such thing"), "{said}");
}

fn a_gateway_that_cannot_start_says_why() {
    let dir = Folder::new();
    let mut options = options(dir.path());
    options.command = ["sh", "-c", "echo no right to it >&2; exit 1"]
        .map(Into::into)
        .into();
    let error = run(Network::start(options)).unwrap_err();
    assert!(error.to_string().contains("no right to it"), "{error}");
    let mut options = crate::world::options(dir.path());
    options.command = vec!["/nonexistent".into()];
    let error = run(Network::start(options)).unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error}");
}

fn a_new_daemon_brings_its_rules() {
    let dir = Folder::new();
    run(async {
        let mut options = options(dir.path());
        let before = Network::start(options.clone()).await.unwrap();
        let (sandbox, netns) = nat(&before).await;
        inside(&netns.fd, || reach(PRIVATE, ECHO).unwrap_err()).await;
        options.config.egress_allow = vec!["10.9.0.0/16".parse().unwrap()];
        let after = Network::start(options).await.unwrap();
        inside(&netns.fd, || reach(PRIVATE, ECHO).unwrap()).await;
        inside(&netns.fd, || reach(PUBLIC, ECHO).unwrap_err()).await;
        after.release(sandbox).await.unwrap();
        after.stop().await.unwrap();
    });
}

fn an_ordinary_user_has_all_of_it() {
    const NOBODY: u32 = 65_534;
    let dir = Folder::new();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let args = [dir.path().to_str().unwrap()];
    let (mut user, said) = start("ordinary-user", &args, |command| {
        command.uid(NOBODY).gid(NOBODY);
    });
    assert!(user.wait().unwrap().success());
    assert_eq!(said, "fine\n");
}
