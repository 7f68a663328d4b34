//! Which addresses sandboxes may reach: a pure decision.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// May a sandbox connect there?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No, and why not.
    Deny(Reason),
}

/// Why an address is kept away from sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `0.0.0.0/8` and `::`.
    Unspecified,
    /// The host's loopback.
    Loopback,
    /// An address of the host itself.
    Host,
    /// The addresses of sandboxes and their gateway.
    Sandboxes,
    /// A service from which a cloud machine gets its credentials.
    Metadata,
    /// More than one receiver.
    Multicast,
    /// A private network (RFC 1918, unique and site local).
    Private,
    /// Addresses shared by a provider's customers (`100.64.0.0/10`).
    CarrierNat,
    /// Only valid on one link.
    LinkLocal,
    /// For documentation, benchmarks, or not assigned.
    Reserved,
}

impl Reason {
    /// What the address is.
    pub fn what(self) -> &'static str {
        match self {
            Self::Unspecified => "the unspecified address",
            Self::Loopback => "a loopback address",
            Self::Host => "an address of the host",
            Self::Sandboxes => "an address of the sandbox network",
            Self::Metadata => "a cloud metadata service",
            Self::Multicast => "a multicast or broadcast address",
            Self::Private => "a private address",
            Self::CarrierNat => "a carrier-shared address",
            Self::LinkLocal => "a link-local address",
            Self::Reserved => "a reserved address",
        }
    }

    /// Whether an exception opens it.
    fn can_be_allowed(self) -> bool {
        matches!(
            self,
            Self::Private | Self::CarrierNat | Self::LinkLocal | Self::Reserved
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())?;
        if self.can_be_allowed() {
            f.write_str(": the operator can permit its network with `egress_allow`")?;
        }
        Ok(())
    }
}

/// The addresses on the host's interfaces.
#[derive(Debug, Clone, Default)]
pub struct HostAddresses(HashSet<IpAddr>);

impl HostAddresses {
    /// Reads them from the kernel.
    pub fn read() -> std::io::Result<Self> {
        let interfaces = nix::ifaddrs::getifaddrs()?;
        Ok(interfaces
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
            })
            .collect())
    }
}

impl FromIterator<IpAddr> for HostAddresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        Self(addresses.into_iter().collect())
    }
}

/// The rules of one node.
#[derive(Debug, Clone)]
pub struct Policy {
    allow: Vec<IpNet>,
    subnet: Ipv4Net,
}

impl Policy {
    /// The rules with the exceptions `allow`, on a node whose sandboxes live in `subnet`.
    pub fn new(allow: Vec<IpNet>, subnet: Ipv4Net) -> Self {
        Self { allow, subnet }
    }

    /// Judges one address. An exception opens private and reserved networks, but never the host,
    /// another sandbox or the credentials of a cloud machine.
    pub fn verdict(&self, destination: IpAddr, host: &HostAddresses) -> Verdict {
        let address = destination.to_canonical();
        let own = if host.0.contains(&address) {
            Some(Reason::Host)
        } else if IpNet::V4(self.subnet).contains(&address) {
            Some(Reason::Sandboxes)
        } else {
            None
        };
        if let Some(reason) = find(NEVER, address).or(own) {
            Verdict::Deny(reason)
        } else if self.allow.iter().any(|net| net.contains(&address)) {
            Verdict::Allow
        } else {
            find(BY_DEFAULT, address).map_or(Verdict::Allow, Verdict::Deny)
        }
    }
}

fn find(rules: &[(IpNet, Reason)], address: IpAddr) -> Option<Reason> {
    let rule = rules.iter().find(|(net, _)| net.contains(&address));
    rule.map(|&(_, reason)| reason)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(bits: u128, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), prefix))
}

/// What no exception opens.
const NEVER: &[(IpNet, Reason)] = &[
    (v4(0, 0, 0, 0, 8), Reason::Unspecified),
    (v6(0, 128), Reason::Unspecified),
    (v4(127, 0, 0, 0, 8), Reason::Loopback),
    (v6(1, 128), Reason::Loopback),
    (v4(169, 254, 169, 254, 32), Reason::Metadata),
    (v4(100, 100, 100, 200, 32), Reason::Metadata),
    (v4(168, 63, 129, 16, 32), Reason::Metadata),
    (v6(0xfd00_0ec2 << 96 | 0x254, 128), Reason::Metadata),
    (v4(224, 0, 0, 0, 4), Reason::Multicast),
    (v4(255, 255, 255, 255, 32), Reason::Multicast),
    (v6(0xff << 120, 8), Reason::Multicast),
];

/// What is closed unless an operator opens it. The first match counts.
const BY_DEFAULT: &[(IpNet, Reason)] = &[
    (v4(10, 0, 0, 0, 8), Reason::Private),
    (v4(172, 16, 0, 0, 12), Reason::Private),
    (v4(192, 168, 0, 0, 16), Reason::Private),
    (v4(100, 64, 0, 0, 10), Reason::CarrierNat),
    (v4(169, 254, 0, 0, 16), Reason::LinkLocal),
    (v4(192, 0, 0, 0, 24), Reason::Reserved),
    (v4(192, 0, 2, 0, 24), Reason::Reserved),
    (v4(192, 88, 99, 0, 24), Reason::Reserved),
    (v4(198, 18, 0, 0, 15), Reason::Reserved),
    (v4(198, 51, 100, 0, 24), Reason::Reserved),
    (v4(203, 0, 113, 0, 24), Reason::Reserved),
    (v4(240, 0, 0, 0, 4), Reason::Reserved),
    (v6(0xfc << 120, 7), Reason::Private),
    (v6(0xfec0 << 112, 10), Reason::Private),
    (v6(0xfe80 << 112, 10), Reason::LinkLocal),
    // Special uses, documentation and 6to4 inside the global range 2000::/3 …
    (v6(0x2001 << 112, 23), Reason::Reserved),
    (v6(0x2001_0db8 << 96, 32), Reason::Reserved),
    (v6(0x2002 << 112, 16), Reason::Reserved),
    (v6(0x3fff << 112, 20), Reason::Reserved),
    // … and all that lies outside it, where IPv4 addresses can hide.
    (v6(0, 3), Reason::Reserved),
    (v6(0x4000 << 112, 2), Reason::Reserved),
    (v6(0x8000 << 112, 1), Reason::Reserved),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(policy: &Policy, address: &str) -> Verdict {
        let host = ["8.8.4.4", "2600::1"].map(|a| a.parse().unwrap());
        policy.verdict(address.parse().unwrap(), &host.into_iter().collect())
    }

    fn policy(allow: &[&str]) -> Policy {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        Policy::new(allow, "10.213.0.0/16".parse().unwrap())
    }

    #[test]
    fn only_the_public_internet_is_open() {
        use Reason::*;
        let policy = policy(&[]);
        for (address, expected) in [
            ("1.1.1.1", None),
            ("8.8.8.8", None),
            ("100.63.255.255", None),
            ("172.32.0.1", None),
            ("2606:4700::1111", None),
            ("::ffff:1.1.1.1", None),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("::", Some(Unspecified)),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.0.9", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("8.8.4.4", Some(Host)),
            ("::ffff:8.8.4.4", Some(Host)),
            ("2600::1", Some(Host)),
            ("10.213.0.1", Some(Sandboxes)),
            ("10.213.255.9", Some(Sandboxes)),
            ("169.254.169.254", Some(Metadata)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("168.63.129.16", Some(Metadata)),
            ("fd00:ec2::254", Some(Metadata)),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("255.255.255.255", Some(Multicast)),
            ("ff02::1", Some(Multicast)),
            ("10.0.0.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("192.168.1.1", Some(Private)),
            ("fd12::1", Some(Private)),
            ("fec0::1", Some(Private)),
            ("100.64.0.1", Some(CarrierNat)),
            ("100.127.255.255", Some(CarrierNat)),
            ("169.254.1.1", Some(LinkLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("192.0.0.1", Some(Reserved)),
            ("192.0.2.1", Some(Reserved)),
            ("198.18.0.1", Some(Reserved)),
            ("198.51.100.1", Some(Reserved)),
            ("203.0.113.1", Some(Reserved)),
            ("240.0.0.1", Some(Reserved)),
            ("64:ff9b::7f00:1", Some(Reserved)),
            ("::7f00:1", Some(Reserved)),
            ("2001:db8::1", Some(Reserved)),
            ("2002:7f00:1::", Some(Reserved)),
            ("4000::1", Some(Reserved)),
            ("9000::1", Some(Reserved)),
        ] {
            let expected = expected.map_or(Verdict::Allow, Verdict::Deny);
            assert_eq!(judge(&policy, address), expected, "{address}");
        }
    }

    #[test]
    fn an_exception_opens_networks_but_not_the_host() {
        let policy = policy(&["0.0.0.0/0", "::/0"]);
        for open in ["10.0.0.1", "203.0.113.1", "169.254.1.1", "fd12::1"] {
            assert_eq!(judge(&policy, open), Verdict::Allow, "{open}");
        }
        for closed in [
            "127.0.0.1",
            "0.0.0.0",
            "8.8.4.4",
            "10.213.0.7",
            "169.254.169.254",
            "224.0.0.1",
        ] {
            assert_ne!(judge(&policy, closed), Verdict::Allow, "{closed}");
        }
    }

    #[test]
    fn a_refusal_names_the_way_out_when_there_is_one() {
        assert!(Reason::Private.to_string().contains("egress_allow"));
        assert!(!Reason::Metadata.to_string().contains("egress_allow"));
    }
}
