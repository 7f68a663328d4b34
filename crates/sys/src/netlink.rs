//! The few rtnetlink requests that a sandbox's network is made of.
//!
//! A [`Netlink`] speaks for the network namespace in which it was opened, whatever namespace its
//! thread moves to later. Each call is one request and its answer, a few microseconds.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The loopback interface has this index in every network namespace.
pub const LOOPBACK: u32 = 1;

const HEADER: usize = 16;
const INTERFACE_HEADER: usize = 16;
/// Longer than any answer to the requests below.
const ANSWER: usize = 32 * 1024;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const NEW: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const INTERFACE_UP: u32 = libc::IFF_UP as u32;
/// `VETH_INFO_PEER` of linux/veth.h, which libc does not name.
const VETH_INFO_PEER: u16 = 1;
/// `IFLA_BR_AGEING_TIME` of `linux/if_link.h`.
const BR_AGEING_TIME: u16 = 4;
/// `RTNH_F_ONLINK` of linux/rtnetlink.h: the next hop needs no route of its own.
const ON_LINK: u32 = 4;

/// A socket to the kernel's routing tables of one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// An IPv4 route through an interface.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Where to: address and prefix length; `(0.0.0.0, 0)` is the default route.
    pub to: (Ipv4Addr, u8),
    /// The next hop, taken to be on the link; `None` if the target itself is.
    pub via: Option<Ipv4Addr>,
    /// The interface's index.
    pub interface: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The index of the interface with this name.
    pub fn index_of(&mut self, name: &str) -> io::Result<u32> {
        let mut message = Message::new(libc::RTM_GETLINK, REQUEST);
        message.interface(0, 0);
        message.name(name);
        let answer = self.call(message)?;
        read_u32(&answer, HEADER + 4).ok_or_else(short_answer)
    }

    /// Switches an interface on.
    pub fn set_up(&mut self, interface: u32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, REQUEST | ACK);
        message.interface(interface, INTERFACE_UP);
        self.call(message).map(drop)
    }

    /// Makes a veth pair, both ends down: `name` here and `peer` in another namespace.
    pub fn add_veth(&mut self, name: &str, peer: &str, netns: BorrowedFd<'_>) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, REQUEST | ACK | NEW);
        message.interface(0, 0);
        message.name(name);
        message.nest(libc::IFLA_LINKINFO, |message| {
            message.attribute(libc::IFLA_INFO_KIND, b"veth\0");
            message.nest(libc::IFLA_INFO_DATA, |message| {
                message.nest(VETH_INFO_PEER, |message| {
                    message.interface(0, 0);
                    message.name(peer);
                    let fd = netns.as_raw_fd().to_ne_bytes();
                    message.attribute(libc::IFLA_NET_NS_FD, &fd);
                });
            });
        });
        self.call(message).map(drop)
    }

    /// Gives an interface an IPv4 address.
    pub fn add_address(&mut self, interface: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, REQUEST | ACK | NEW);
        message.bytes(&[libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        message.bytes(&interface.to_ne_bytes());
        message.attribute(libc::IFA_LOCAL, &address.octets());
        message.attribute(libc::IFA_ADDRESS, &address.octets());
        self.call(message).map(drop)
    }

    /// Takes an IPv4 address from an interface.
    pub fn remove_address(
        &mut self,
        interface: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_DELADDR, REQUEST | ACK);
        message.bytes(&[libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        message.bytes(&interface.to_ne_bytes());
        message.attribute(libc::IFA_LOCAL, &address.octets());
        self.call(message).map(drop)
    }

    /// Makes a bridge, down and without ports. It remembers no sender: each would be an entry in the kernel, and who sends makes up as many as it likes.
    pub fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, REQUEST | ACK | NEW);
        message.interface(0, 0);
        message.name(name);
        message.nest(libc::IFLA_LINKINFO, |message| {
            message.attribute(libc::IFLA_INFO_KIND, b"bridge\0");
            message.nest(libc::IFLA_INFO_DATA, |message| {
                message.attribute(BR_AGEING_TIME, &0_u32.to_ne_bytes());
            });
        });
        self.call(message).map(drop)
    }

    /// Makes an interface a port of a bridge.
    pub fn set_bridge(&mut self, interface: u32, bridge: u32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, REQUEST | ACK);
        message.interface(interface, 0);
        message.attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        self.call(message).map(drop)
    }

    /// Adds a route to the main table; `EEXIST` if there is one to the same target.
    pub fn add_route(&mut self, route: Route) -> io::Result<()> {
        let (to, prefix) = route.to;
        let (scope, flags) = match route.via {
            Some(_) => (libc::RT_SCOPE_UNIVERSE, ON_LINK),
            None => (libc::RT_SCOPE_LINK, 0),
        };
        let mut message = Message::new(libc::RTM_NEWROUTE, REQUEST | ACK | NEW);
        message.bytes(&[libc::AF_INET as u8, prefix, 0, 0]);
        message.bytes(&[
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            scope,
            libc::RTN_UNICAST,
        ]);
        message.bytes(&flags.to_ne_bytes());
        if prefix > 0 {
            message.attribute(libc::RTA_DST, &to.octets());
        }
        if let Some(via) = route.via {
            message.attribute(libc::RTA_GATEWAY, &via.octets());
        }
        message.attribute(libc::RTA_OIF, &route.interface.to_ne_bytes());
        self.call(message).map(drop)
    }

    fn call(&mut self, message: Message) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = message.finish(self.sequence);
        rustix::net::send(&self.socket, &request, SendFlags::empty())?;
        let mut answer = vec![0; ANSWER];
        let (received, _) =
            rustix::net::recv(&self.socket, answer.as_mut_slice(), RecvFlags::empty())?;
        answer.truncate(received);
        check(answer, self.sequence)
    }
}

/// The answer, unless it is an error or belongs to another request.
fn check(answer: Vec<u8>, sequence: u32) -> io::Result<Vec<u8>> {
    if read_u32(&answer, 8) != Some(sequence) {
        return Err(short_answer());
    }
    let kind = answer.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    if kind != Some(libc::NLMSG_ERROR as u16) {
        return Ok(answer);
    }
    match read_u32(&answer, HEADER).map(u32::cast_signed) {
        Some(0) => Ok(answer),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(short_answer()),
    }
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn short_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an answer to the request")
}

/// A request being written: a header, then attributes padded to four bytes.
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The interface header: index 0 is "by name" or "a new one"; only the `up` flags change.
    fn interface(&mut self, index: u32, up: u32) {
        let mut header = [0; INTERFACE_HEADER];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..12].copy_from_slice(&up.to_ne_bytes());
        header[12..16].copy_from_slice(&up.to_ne_bytes());
        self.bytes(&header);
    }

    fn name(&mut self, name: &str) {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.attribute(libc::IFLA_IFNAME, &text);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |message| message.0.extend_from_slice(value));
        self.bytes(&[]);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}
