//! Makes network namespaces, on one thread that moves from each to the next.
//!
//! The thread's first namespace is the gateway's: sandboxes with a way out get a veth pair into it.
//! Nothing runs in any of them here; what was opened inside stays usable from other threads.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use skerry_sys::netlink::{LOOPBACK, Netlink, Route};
use tokio::sync::oneshot;

use crate::firewall;

/// The port on the gateway's address where every TCP connection ends.
pub(crate) const RELAY_PORT: u16 = 1;
/// The port on the gateway's address where every name lookup ends.
pub(crate) const DNS_PORT: u16 = 53;

/// The highest group that the kernel takes in a range.
const MAX_GROUP: u32 = i32::MAX.cast_unsigned();

const EVERYWHERE: (Ipv4Addr, u8) = (Ipv4Addr::UNSPECIFIED, 0);

/// The step of making a namespace that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("unshare the network: {0}")]
    Unshare(#[source] io::Error),
    #[error("open the namespace: {0}")]
    Open(#[source] io::Error),
    #[error("read which groups there are: {0}")]
    Groups(#[source] io::Error),
    #[error("set {0}: {1}")]
    Sysctl(&'static str, #[source] io::Error),
    #[error("switch the loopback on: {0}")]
    Loopback(#[source] io::Error),
    #[error("join it to the gateway: {0}")]
    Veth(#[source] io::Error),
    #[error("give it an address: {0}")]
    Address(#[source] io::Error),
    #[error("give it a route: {0}")]
    Route(#[source] io::Error),
    /// An earlier sandbox with this address is still being taken down by the kernel.
    #[error("the address {0} is still in use")]
    Taken(Ipv4Addr),
    #[error("confine it to what it needs: {0}")]
    Confine(#[source] io::Error),
    #[error("the thread that makes namespaces is gone")]
    Gone,
}

/// Sockets inside the gateway's namespace.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) relay: TcpListener,
    pub(crate) dns_tcp: TcpListener,
    pub(crate) dns_udp: UdpSocket,
}

/// What the factory needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// The gateway's address.
    pub(crate) gateway: Ipv4Addr,
    /// Connections of one sandbox that the kernel tracks before it drops new ones.
    pub(crate) tracked_per_sandbox: usize,
}

/// Asks the factory's thread for namespaces.
#[derive(Debug, Clone)]
pub(crate) struct Factory {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    address: Option<Ipv4Addr>,
    done: oneshot::Sender<Result<OwnedFd, MakeError>>,
}

/// Starts the factory, whose thread confines itself once it has what it needs; the second part says why there is no way out, if there is none.
pub(crate) fn start(
    site: Site,
    confine: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(Factory, Result<Sockets, String>), MakeError> {
    let (jobs, queue) = mpsc::channel();
    let (ready, started) = mpsc::channel();
    let run = move || match Yard::new(site) {
        Err(error) => drop(ready.send(Err(error))),
        Ok(mut yard) => {
            let sockets = yard.open_gateway();
            let confined = confine().map_err(MakeError::Confine);
            if ready.send(confined.map(|()| sockets)).is_ok() {
                yard.work(&queue);
            }
        }
    };
    thread::Builder::new()
        .name("netns".to_owned())
        .spawn(run)
        .map_err(|_| MakeError::Gone)?;
    let sockets = started.recv().map_err(|_| MakeError::Gone)??;
    Ok((Factory { jobs }, sockets))
}

impl Factory {
    /// Makes a namespace, with a way out if there is an address.
    pub(crate) async fn make(&self, address: Option<Ipv4Addr>) -> Result<OwnedFd, MakeError> {
        let (done, made) = oneshot::channel();
        self.jobs
            .send(Job { address, done })
            .map_err(|_| MakeError::Gone)?;
        made.await.map_err(|_| MakeError::Gone)?
    }
}

/// What the thread holds: the gateway's namespace and a socket to its routing tables.
struct Yard {
    site: Site,
    netns: OwnedFd,
    netlink: Netlink,
    /// Every group there is, as a range.
    groups: String,
}

impl Yard {
    fn new(site: Site) -> Result<Self, MakeError> {
        let netns = enter_new()?;
        let netlink = Netlink::open().map_err(MakeError::Open)?;
        Ok(Self {
            site,
            netns,
            netlink,
            groups: all_groups().map_err(MakeError::Groups)?,
        })
    }

    /// Must run while the thread is still in the gateway's namespace.
    fn open_gateway(&mut self) -> Result<Sockets, String> {
        let gateway = self.site.gateway;
        self.dress_gateway().map_err(|error| error.to_string())?;
        firewall::load(gateway, self.site.tracked_per_sandbox)?;
        // Every lookup is a tracked flow of its own; most are over after a moment.
        set("netfilter/nf_conntrack_udp_timeout", "10").map_err(|error| error.to_string())?;
        let listen = |port| {
            TcpListener::bind((gateway, port)).map_err(|e| format!("listen on TCP {port}: {e}"))
        };
        Ok(Sockets {
            relay: listen(RELAY_PORT)?,
            dns_tcp: listen(DNS_PORT)?,
            dns_udp: UdpSocket::bind((gateway, DNS_PORT))
                .map_err(|e| format!("listen on UDP {DNS_PORT}: {e}"))?,
        })
    }

    fn dress_gateway(&mut self) -> Result<(), MakeError> {
        // A new namespace copies these from the host, whatever they are there.
        set("ipv4/ip_forward", "0")?;
        for (key, value) in [
            ("ipv4/conf/all/rp_filter", "1"),
            ("ipv4/conf/default/rp_filter", "1"),
            ("ipv4/conf/default/arp_ignore", "0"),
            ("ipv4/conf/all/arp_ignore", "0"),
            ("ipv4/conf/all/route_localnet", "0"),
            ("ipv4/conf/default/route_localnet", "0"),
            ("ipv4/conf/all/accept_redirects", "0"),
            ("ipv4/conf/all/accept_source_route", "0"),
        ] {
            set(key, value)?;
        }
        no_ipv6_on_new_interfaces()?;
        self.netlink.set_up(LOOPBACK).map_err(MakeError::Loopback)?;
        self.netlink
            .add_address(LOOPBACK, self.site.gateway, 32)
            .map_err(MakeError::Address)
    }

    fn work(&mut self, queue: &mpsc::Receiver<Job>) {
        for Job { address, done } in queue {
            // Nobody waits any more: the namespace closes with the answer.
            drop(done.send(self.make(address)));
        }
    }

    fn make(&mut self, address: Option<Ipv4Addr>) -> Result<OwnedFd, MakeError> {
        let netns = enter_new()?;
        set("ipv4/ip_forward", "0")?;
        // The sandbox has no capability here, so what needs one is opened to all of its users.
        set("ipv4/ip_unprivileged_port_start", "0")?;
        set("ipv4/ping_group_range", &self.groups)?;
        no_ipv6_on_new_interfaces()?;
        let mut inside = Netlink::open().map_err(MakeError::Open)?;
        inside.set_up(LOOPBACK).map_err(MakeError::Loopback)?;
        if let Some(address) = address {
            self.connect(&mut inside, address)?;
        }
        Ok(netns)
    }

    /// A veth pair of its own for each sandbox: what leaves with a foreign source address fails the
    /// reverse path filter, and no two sandboxes share a link.
    fn connect(&mut self, inside: &mut Netlink, address: Ipv4Addr) -> Result<(), MakeError> {
        let name = format!("v{:08x}", u32::from(address));
        let taken_or = |wrap: fn(io::Error) -> MakeError| {
            move |error: io::Error| match error.kind() {
                io::ErrorKind::AlreadyExists => MakeError::Taken(address),
                _ => wrap(error),
            }
        };
        inside
            .add_veth("eth0", &name, self.netns.as_fd())
            .map_err(taken_or(MakeError::Veth))?;
        let outer = self.netlink.index_of(&name).map_err(MakeError::Veth)?;
        self.netlink.set_up(outer).map_err(MakeError::Veth)?;
        let to_sandbox = Route {
            to: (address, 32),
            via: None,
            interface: outer,
        };
        self.netlink
            .add_route(to_sandbox)
            .map_err(taken_or(MakeError::Route))?;

        let inner = inside.index_of("eth0").map_err(MakeError::Veth)?;
        inside
            .add_address(inner, address, 32)
            .map_err(MakeError::Address)?;
        inside.set_up(inner).map_err(MakeError::Veth)?;
        let to_gateway = Route {
            to: EVERYWHERE,
            via: Some(self.site.gateway),
            interface: inner,
        };
        inside.add_route(to_gateway).map_err(MakeError::Route)
    }
}

fn enter_new() -> Result<OwnedFd, MakeError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| MakeError::Unshare(errno.into()))?;
    let netns = File::open("/proc/thread-self/ns/net").map_err(MakeError::Open)?;
    Ok(netns.into())
}

/// The groups of this user namespace, where a process without privileges has only one.
fn all_groups() -> io::Result<String> {
    let map = std::fs::read_to_string("/proc/self/gid_map")?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let (first, last) = group_range(&map).ok_or_else(invalid)?;
    Ok(format!("{first} {last}"))
}

/// The groups of a map from the first one on, as far as there is no gap.
fn group_range(map: &str) -> Option<(u32, u32)> {
    let numbers = |line: &str| -> Option<(u32, u32)> {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let first = fields.next()?.ok()?;
        let count = fields.nth(1)?.ok()?;
        Some((first, first.saturating_add(count.checked_sub(1)?)))
    };
    let mut ranges: Vec<_> = map.lines().filter_map(numbers).collect();
    ranges.sort_unstable();
    let (first, mut last) = *ranges.first()?;
    for (next, end) in ranges {
        if next <= last.saturating_add(1) {
            last = last.max(end);
        }
    }
    Some((first, last.min(MAX_GROUP)))
}

/// Keeps `::1` and gives no other interface an IPv6 address.
fn no_ipv6_on_new_interfaces() -> Result<(), MakeError> {
    match set("ipv6/conf/default/disable_ipv6", "1") {
        // A kernel without IPv6 has nothing to switch off.
        Err(MakeError::Sysctl(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes a setting of the calling thread's network namespace.
fn set(key: &'static str, value: &str) -> Result<(), MakeError> {
    std::fs::write(format!("/proc/sys/net/{key}"), value)
        .map_err(|error| MakeError::Sysctl(key, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_one_range_up_to_a_gap() {
        assert_eq!(group_range("0 1000 1\n1 100000 65536\n"), Some((0, 65_536)));
        assert_eq!(group_range("5 7 1\n0 1 3\n"), Some((0, 2)));
        let all = "         0          0 4294967295\n";
        assert_eq!(group_range(all), Some((0, MAX_GROUP)));
        assert_eq!(group_range(""), None);
        assert_eq!(group_range("0 0 0"), None);
    }
}
