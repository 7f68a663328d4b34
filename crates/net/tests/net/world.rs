//! The host and the internet of the tests, and ways to act inside a sandbox's namespace.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use skerry_net::{Config, Network, Options};
use skerry_sys::netlink::{LOOPBACK, Netlink, Route};
use tempfile::TempDir;

/// A server on the internet, in a range that the tests allow.
pub(crate) const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// A server in a private network.
pub(crate) const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
/// The metadata service of a cloud.
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The host's own address.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The name server of the host.
pub(crate) const NAMES: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// What the name server answers to every question.
pub(crate) const ANSWER: [u8; 4] = [203, 0, 113, 10];

/// Sends every byte back at once.
pub(crate) const ECHO: u16 = 7;
/// The same, where a connection is expected to say which name it wants.
pub(crate) const HTTP: u16 = 80;
pub(crate) const TLS: u16 = 443;
/// Sends everything back, but only after the end of what it gets.
pub(crate) const MIRROR: u16 = 8;
/// Sends as long as anybody listens.
pub(crate) const SOURCE: u16 = 19;

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Makes this process the host, and an internet next to it.
pub(crate) fn enter() {
    if !rustix::process::geteuid().is_root() {
        become_root();
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let host = File::open("/proc/thread-self/ns/net").unwrap();
    let mut here = Netlink::open().unwrap();
    here.set_up(LOOPBACK).unwrap();
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        build_internet(host.as_fd());
        serve_internet();
        ready.send(()).unwrap();
        loop {
            thread::park();
        }
    });
    is_ready.recv().unwrap();
    let uplink = here.index_of("uplink").unwrap();
    here.add_address(uplink, HOST, 24).unwrap();
    here.set_up(uplink).unwrap();
    here.add_route(Route {
        to: (Ipv4Addr::UNSPECIFIED, 0),
        via: Some(NAMES),
        interface: uplink,
    })
    .unwrap();
    serve(
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO)).unwrap(),
        echo,
    );
}

/// Of a user namespace, for the one who runs the tests as an ordinary user.
fn become_root() {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw())).unwrap();
    std::fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw())).unwrap();
}

fn build_internet(host: BorrowedFd<'_>) {
    let mut there = Netlink::open().unwrap();
    there.set_up(LOOPBACK).unwrap();
    for address in [PUBLIC, PRIVATE, METADATA] {
        there.add_address(LOOPBACK, address, 32).unwrap();
    }
    there.add_veth("downlink", "uplink", host).unwrap();
    let downlink = there.index_of("downlink").unwrap();
    there.add_address(downlink, NAMES, 24).unwrap();
    there.set_up(downlink).unwrap();
}

fn serve_internet() {
    for port in [ECHO, HTTP, TLS] {
        serve(
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap(),
            echo,
        );
    }
    serve(
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, MIRROR)).unwrap(),
        mirror,
    );
    serve(
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, SOURCE)).unwrap(),
        source,
    );
    serve(TcpListener::bind((NAMES, 53)).unwrap(), names_over_tcp);
    let socket = UdpSocket::bind((NAMES, 53)).unwrap();
    thread::spawn(move || names_over_udp(&socket));
}

fn serve(listener: TcpListener, handle: fn(TcpStream) -> io::Result<()>) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || handle(stream));
        }
    });
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..got])?;
    }
}

fn source(mut stream: TcpStream) -> io::Result<()> {
    let zeros = vec![0; 128 * 1024];
    loop {
        stream.write_all(&zeros)?;
    }
}

fn mirror(mut stream: TcpStream) -> io::Result<()> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    stream.write_all(&all)
}

/// The last bytes of an answer to a name that starts with `id`: under which id the name server was asked.
pub(crate) fn asked_under(answer: &[u8]) -> [u8; 2] {
    *answer.last_chunk().unwrap()
}

/// Cuts the answer to a name that starts with `big`, like a server whose answer is too long.
fn names_over_udp(socket: &UdpSocket) {
    let mut buffer = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        let mut answer = answer(&buffer[..length]);
        if buffer[13..].starts_with(b"big") {
            answer[2] |= 0x02;
        }
        socket.send_to(&answer, peer).unwrap();
    }
}

fn names_over_tcp(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let question = read_frame(&mut stream)?;
        write_frame(&mut stream, &answer(&question))?;
    }
}

fn answer(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    if question[13..].starts_with(b"id") {
        answer.extend_from_slice(&[203, 0, question[0], question[1]]);
    } else {
        answer.extend_from_slice(&ANSWER);
    }
    answer
}

/// A question for the address of `label.example`.
pub(crate) fn question(label: &str) -> Vec<u8> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.push(u8::try_from(label.len()).unwrap());
    question.extend_from_slice(label.as_bytes());
    question.extend_from_slice(b"\x07example\0\0\x01\0\x01");
    question
}

/// A DNS message on a stream.
pub(crate) fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// Writes a DNS message to a stream.
pub(crate) fn write_frame(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes())?;
    stream.write_all(message)
}

/// A folder for a network, whose gateway ends with it even when the test fails.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("net/gateway.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Ok(mut gateway) = UnixStream::connect(self.socket()) {
            gateway.write_all(b"\"stop\"\n").ok();
            gateway.read_to_end(&mut Vec::new()).ok();
        }
    }
}

/// Options for a network in this folder, with the public server allowed.
pub(crate) fn options(dir: &Path) -> Options {
    let resolv_conf = dir.join("resolv.conf");
    std::fs::write(&resolv_conf, format!("nameserver {NAMES}\n")).unwrap();
    Options {
        command: vec![std::env::current_exe().unwrap().into(), "gateway".into()],
        dir: dir.join("net"),
        config: Config {
            egress_allow: vec!["203.0.113.0/24".parse().unwrap()],
            linger_seconds: 1,
            pool: 2,
            resolv_conf,
            ..Config::default()
        },
    }
}

/// Runs a test against a fresh network, whose gateway is gone afterwards.
pub(crate) fn with_network<F: Future<Output = ()>>(
    change: impl FnOnce(&mut Options),
    case: impl FnOnce(Network) -> F,
) {
    run(async {
        let dir = Folder::new();
        let mut options = options(dir.path());
        change(&mut options);
        let network = Network::start(options).await.unwrap();
        case(network.clone()).await;
        let gateway = Process::open(network.facts().await.unwrap().pid);
        network.stop().await.unwrap();
        gateway.wait_for_end();
        assert!(!dir.socket().exists());
        let mut interfaces = nix::ifaddrs::getifaddrs().unwrap();
        let foreign = interfaces.find(|i| !["lo", "uplink"].contains(&&*i.interface_name));
        assert!(foreign.is_none(), "{foreign:?}");
    });
}

/// Runs a future to its end.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Runs a function inside a network namespace and gives its result.
pub(crate) async fn inside<T: Send + 'static>(
    netns: &OwnedFd,
    act: impl FnOnce() -> T + Send + 'static,
) -> T {
    let netns = netns.try_clone().unwrap();
    let (done, result) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        drop(done.send(act()));
    });
    result.await.unwrap()
}

/// Connects from where the caller is.
pub(crate) fn connect(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::new(IpAddr::V4(address), port);
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Says a word to an echo server and hears whether it comes back.
pub(crate) fn talk(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"skerry")?;
    let mut heard = [0; 6];
    stream.read_exact(&mut heard)?;
    assert_eq!(&heard, b"skerry");
    Ok(())
}

/// Connects to an echo server and talks to it.
pub(crate) fn reach(address: Ipv4Addr, port: u16) -> io::Result<()> {
    talk(&mut connect(address, port)?)
}

/// A process that the tests wait for.
pub(crate) struct Process(OwnedFd);

impl Process {
    pub(crate) fn open(pid: u32) -> Self {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        let flags = rustix::process::PidfdFlags::empty();
        Self(rustix::process::pidfd_open(pid, flags).unwrap())
    }

    pub(crate) fn kill(&self) {
        rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL).unwrap();
    }

    pub(crate) fn wait_for_end(&self) {
        let mut fds = [rustix::event::PollFd::new(
            &self.0,
            rustix::event::PollFlags::IN,
        )];
        let patience = rustix::event::Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(rustix::event::poll(&mut fds, Some(&patience)).unwrap(), 1);
    }
}
