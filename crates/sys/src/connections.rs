//! Ending TCP connections of programs that hold them and know nothing of it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with,
};

use crate::netlink::{Message, read_u32};

/// Longer than what the kernel puts into one part of a list.
const PART: usize = 64 * 1024;
const HEADER: usize = 16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const LIST: u16 = REQUEST | libc::NLM_F_DUMP as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
/// Of linux/sock_diag.h, which libc does not name.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// Every state of a connection; what listens has none.
const CONNECTED: u32 = !(1 << LISTENS);
const LISTENS: u32 = 10;
/// In `struct inet_diag_msg` an endpoint follows four bytes: two ports, two addresses of 16 bytes, interface and cookie.
const ENDPOINT: std::ops::Range<usize> = HEADER + 4..HEADER + 4 + 48;
/// In an endpoint, its own address.
const SOURCE: std::ops::Range<usize> = 4..20;

/// A connection, as the kernel names it.
struct Connection {
    family: AddressFamily,
    endpoint: Vec<u8>,
}

/// Ends every TCP connection of the calling thread's network namespace that is from this address: its program gets an error, at once where it
/// waits. Nothing is told to the other side if the address is gone already.
pub fn abort_from(address: Ipv4Addr) -> io::Result<()> {
    let protocol = Some(netlink::SOCK_DIAG);
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::RAW, flags, protocol)?;
    for (family, source) in sources(address) {
        for connection in connected(&socket, family, source)? {
            abort(&socket, &connection)?;
        }
    }
    Ok(())
}

/// The address as sockets of each family write it.
fn sources(address: Ipv4Addr) -> [(AddressFamily, [u8; 16]); 2] {
    let mut plain = [0; 16];
    plain[..4].copy_from_slice(&address.octets());
    let mapped = address.to_ipv6_mapped().octets();
    [(AddressFamily::INET, plain), (AddressFamily::INET6, mapped)]
}

fn connected(
    socket: &OwnedFd,
    family: AddressFamily,
    source: [u8; 16],
) -> io::Result<Vec<Connection>> {
    let message = request(BY_FAMILY, LIST, family, &[0; 48]);
    rustix::net::send(socket, &message, SendFlags::empty())?;
    let mut found = Vec::new();
    let mut part = vec![0; PART];
    loop {
        let (len, _) = rustix::net::recv(socket, part.as_mut_slice(), RecvFlags::empty())?;
        for message in messages(&part[..len]) {
            if finished(message)? {
                return Ok(found);
            }
            let endpoint = message.get(ENDPOINT).ok_or(io::ErrorKind::InvalidData)?;
            if endpoint[SOURCE] == source {
                found.push(Connection {
                    family,
                    endpoint: endpoint.to_vec(),
                });
            }
        }
    }
}

fn abort(socket: &OwnedFd, connection: &Connection) -> io::Result<()> {
    let flags = REQUEST | ACK;
    let message = request(DESTROY, flags, connection.family, &connection.endpoint);
    rustix::net::send(socket, &message, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (len, _) = rustix::net::recv(socket, answer.as_mut_slice(), RecvFlags::empty())?;
    match finished(&answer[..len]) {
        // It ended meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map(drop),
    }
}

/// `struct inet_diag_req_v2` behind its header.
fn request(kind: u16, flags: u16, family: AddressFamily, endpoint: &[u8]) -> Vec<u8> {
    let mut message = Message::new(kind, flags);
    let family = family.as_raw() as u8;
    message.bytes(&[family, libc::IPPROTO_TCP as u8, 0, 0]);
    message.bytes(&CONNECTED.to_ne_bytes());
    message.bytes(endpoint);
    message.finish(0)
}

/// What the kernel put behind one another.
fn messages(mut part: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = read_u32(part, 0)? as usize;
        let message = part.get(..len).filter(|_| len >= HEADER)?;
        part = part.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Nothing follows this message. An error, if that is what it says.
fn finished(message: &[u8]) -> io::Result<bool> {
    let kind = message.get(4..6).ok_or(io::ErrorKind::InvalidData)?;
    let kind = i32::from(u16::from_ne_bytes([kind[0], kind[1]]));
    if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
        return Ok(false);
    }
    match read_u32(message, HEADER).map_or(0, u32::cast_signed) {
        0 => Ok(true),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::netlink::{LOOPBACK, Netlink};

    /// A connection from this address.
    fn connect(from: Ipv4Addr, to: &TcpListener) -> TcpStream {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        rustix::net::connect(&socket, &to.local_addr().unwrap()).unwrap();
        socket.into()
    }

    #[test]
    fn connections_from_one_address_end_and_others_go_on() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: only root makes a network namespace");
        }
        // The namespace goes with the thread.
        let in_namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut network = Netlink::open().unwrap();
            network.set_up(LOOPBACK).unwrap();
            let [own, other] = [1, 2].map(|last| Ipv4Addr::new(192, 0, 2, last));
            for address in [own, other] {
                network.add_address(LOOPBACK, address, 32).unwrap();
            }
            let listener = TcpListener::bind((other, 0)).unwrap();
            let mut cut = connect(own, &listener);
            let mut waits = connect(own, &listener);
            let mut holds = connect(other, &listener);
            let waiting = thread::spawn(move || waits.read(&mut [0]).unwrap_err().kind());
            abort_from(own).unwrap();
            let aborted = io::ErrorKind::ConnectionAborted;
            assert_eq!(cut.read(&mut [0]).unwrap_err().kind(), aborted);
            assert_eq!(waiting.join().unwrap(), aborted);
            let peers: Vec<TcpStream> = (0..3).map(|_| listener.accept().unwrap().0).collect();
            drop(peers);
            assert_eq!(holds.read(&mut [0]).unwrap(), 0);
            connect(own, &listener);
        });
        in_namespace.join().unwrap();
    }
}
