//! Joining a machine's network card to the namespace that the gateway made for the sandbox.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use skerry_sys::netlink::Netlink;
use skerry_sys::tap;

/// Every sandbox's interface in its namespace.
const OUTSIDE: &str = "eth0";

/// Moves there and makes a card that speaks for the sandbox: the namespace itself gives its address up and only passes frames on.
pub(super) fn join(netns: &OwnedFd, address: Option<Ipv4Addr>) -> io::Result<OwnedFd> {
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    let tap = tap::open("tap0")?;
    let mut netlink = Netlink::open()?;
    let outside = netlink.index_of(OUTSIDE)?;
    if let Some(address) = address {
        // An earlier machine of this sandbox had it already.
        let _gone = netlink.remove_address(outside, address, 32);
    }
    match netlink.add_bridge("br0") {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let bridge = netlink.index_of("br0")?;
    let inside = netlink.index_of("tap0")?;
    for port in [outside, inside] {
        netlink.set_bridge(port, bridge)?;
        netlink.set_up(port)?;
    }
    netlink.set_up(bridge)?;
    Ok(tap)
}
