//! What the rules of a sandbox say of one connection: a pure decision. The node's [`crate::policy`] has judged it before.

use std::net::Ipv4Addr;
use std::sync::Arc;

use skerry_types::Egress;

/// Ports where a connection says which name it wants, so that an address which many names share opens only those that are allowed.
const NAMED: [u16; 2] = [80, 443];

/// A connection, as far as it is known.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    /// The names that the sandbox was given the address for.
    pub(crate) names: Vec<Arc<str>>,
    /// The name that it asked for itself, if it had to.
    pub(crate) said: Option<String>,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Open,
    /// That depends on the name which it asks for.
    AskName,
    /// And why, for the owner of the sandbox.
    Closed(String),
}

/// Judges a connection.
pub(crate) fn rule(egress: &Egress, attempt: &Attempt) -> Ruling {
    let Some(denied) = egress.denied_by(attempt.address.into()) else {
        return Ruling::Open;
    };
    let allowed = attempt.names.iter().find(|name| egress.allows_name(name));
    match (allowed, &attempt.said) {
        (None, _) => Ruling::Closed(closed(&attempt.names, denied)),
        (Some(_), _) if !NAMED.contains(&attempt.port) => Ruling::Open,
        (Some(_), None) => Ruling::AskName,
        (Some(_), Some(said)) if egress.allows_name(said) => Ruling::Open,
        (Some(name), Some(said)) => Ruling::Closed(format!(
            "the sandbox's egress rules allow {name} at this address, but it asked for {}",
            shown(said)
        )),
    }
}

fn closed(names: &[Arc<str>], denied: ipnet::IpNet) -> String {
    match names.first() {
        Some(name) => format!("the sandbox's egress rules deny {denied} and do not allow {name}"),
        None => format!("the sandbox's egress rules deny {denied} and do not allow this address"),
    }
}

/// A name that a stranger wrote.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(port: u16, names: &[&str], said: Option<&str>) -> Ruling {
        let egress = Egress::new(&["example.org", "8.8.8.8"], &["0.0.0.0/0"]).unwrap();
        let attempt = Attempt {
            address: Ipv4Addr::new(203, 0, 113, 10),
            port,
            names: names.iter().map(|&name| name.into()).collect(),
            said: said.map(str::to_owned),
        };
        rule(&egress, &attempt)
    }

    #[test]
    fn an_address_is_open_by_its_name() {
        assert_eq!(judged(22, &["evil.net", "example.org"], None), Ruling::Open);
        assert_eq!(judged(443, &["example.org"], None), Ruling::AskName);
        assert_eq!(
            judged(443, &["example.org"], Some("example.org")),
            Ruling::Open
        );
        let why = |ruling| match ruling {
            Ruling::Closed(why) => why,
            other => panic!("{other:?}"),
        };
        let other = why(judged(80, &["example.org"], Some("evil.net")));
        assert!(other.contains("asked for evil.net"), "{other}");
        let unknown = why(judged(22, &[], None));
        assert!(unknown.contains("deny 0.0.0.0/0"), "{unknown}");
        let wrong = why(judged(443, &["evil.net"], Some("example.org")));
        assert!(wrong.contains("do not allow evil.net"), "{wrong}");
    }

    #[test]
    fn an_allowed_address_is_open_without_a_name() {
        let egress = Egress::new(&["203.0.113.10"], &["0.0.0.0/0"]).unwrap();
        let attempt = Attempt {
            address: Ipv4Addr::new(203, 0, 113, 10),
            port: 443,
            names: Vec::new(),
            said: None,
        };
        assert_eq!(rule(&egress, &attempt), Ruling::Open);
        let open = rule(&Egress::default(), &attempt);
        assert_eq!(open, Ruling::Open);
    }
}
