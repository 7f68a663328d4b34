//! The files in `/etc` that tell a sandbox who it is and where its network begins.

use std::net::Ipv4Addr;

use skerry_types::SandboxId;

use crate::Netns;

/// What a sandbox without an address of its own has its name at.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// Their names and contents.
pub fn etc(id: SandboxId, hostname: &str, netns: Option<&Netns>) -> [(&'static str, String); 4] {
    let address = netns.and_then(|netns| netns.address).unwrap_or(OWN);
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{address} {hostname}\n"
    );
    let resolv_conf = netns.map(Netns::resolv_conf).unwrap_or_default();
    [
        ("hosts", hosts),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolv_conf),
        ("machine-id", format!("{}\n", id.uuid().simple())),
    ]
}
