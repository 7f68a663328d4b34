//! Rules for where a sandbox with network `nat` may connect, as its owner writes them. Who enforces them is the network's gateway.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Entries of one list.
pub const MAX_ENTRIES: usize = 256;
/// Bytes of an entry: the longest name, and the star before it.
const MAX_BYTES: usize = 255;
const MAX_LABEL: usize = 63;
/// Every address there is for a sandbox.
pub const EVERYTHING: &str = "0.0.0.0/0";

/// What may be reached and what may not. Allowed goes before denied, and what neither list has is open. Without entries nothing is ruled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Lists", into = "Lists")]
pub struct Egress {
    allow: Vec<Allowed>,
    deny: Vec<Net>,
}

/// An entry of the allow list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    Net(Net),
    Name(Pattern),
}

/// An address or a network; one that is a single address is written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net(IpNet);

/// A name, or with a star before it every name below it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// In lower case, without the last dot.
    name: String,
    is_star: bool,
}

/// The rules in writing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lists {
    allow: Vec<String>,
    deny: Vec<String>,
}

/// Why something is no list of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// More than [`MAX_ENTRIES`].
    #[error("{list} has {count} entries; it may have {MAX_ENTRIES}")]
    TooMany {
        /// Which of the two.
        list: &'static str,
        /// What it has.
        count: usize,
    },
    /// It means nothing.
    #[error(
        "{list}: `{entry}` is no address, no network such as 192.0.2.0/24 and no domain such as example.com or *.example.com"
    )]
    Unknown {
        /// Which of the two.
        list: &'static str,
        /// As far as it can be shown.
        entry: String,
    },
    /// A network that could be meant in two ways.
    #[error("{list}: `{entry}` has bits after its prefix; write {network}, or the address alone")]
    Bits {
        /// Which of the two.
        list: &'static str,
        /// The entry.
        entry: String,
        /// What the prefix says.
        network: IpNet,
    },
    /// A name may have any address, now and later: what is denied are addresses.
    #[error(
        "deny: `{entry}` is a domain, and only addresses and networks can be denied; deny {EVERYTHING} and allow what is needed"
    )]
    DeniedName {
        /// The entry.
        entry: String,
    },
    /// Sandboxes have no IPv6.
    #[error("allow: `{entry}` cannot be reached, since sandboxes connect over IPv4 alone")]
    Ipv6 {
        /// The entry.
        entry: String,
    },
}

impl Egress {
    /// Reads both lists. What stands there twice counts once.
    pub fn new<S: AsRef<str>>(allow: &[S], deny: &[S]) -> Result<Self, EgressError> {
        Ok(Self {
            allow: entries("allow", allow, allowed)?,
            deny: entries("deny", deny, denied)?,
        })
    }

    /// Nothing is ruled.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// The allow list, each entry in the one way to write it.
    pub fn allow(&self) -> Vec<String> {
        self.allow.iter().map(ToString::to_string).collect()
    }

    /// The deny list in the same way.
    pub fn deny(&self) -> Vec<String> {
        self.deny.iter().map(ToString::to_string).collect()
    }

    /// The entry that denies an address, unless it is allowed as an address.
    pub fn denied_by(&self, address: IpAddr) -> Option<IpNet> {
        let contains = |net: &Net| net.0.contains(&address);
        let is_allowed = self.allow.iter().any(|allowed| match allowed {
            Allowed::Net(net) => contains(net),
            Allowed::Name(_) => false,
        });
        let denied = self.deny.iter().find(|net| contains(net));
        denied.filter(|_| !is_allowed).map(|net| net.0)
    }

    /// Whether a name is on the allow list.
    pub fn allows_name(&self, name: &str) -> bool {
        let name = normal(name);
        self.allow.iter().any(|allowed| match allowed {
            Allowed::Net(_) => false,
            Allowed::Name(pattern) => pattern.matches(&name),
        })
    }

    /// Whether a name may be looked up. Where every address is denied, a question for one that is not allowed could only carry something out.
    pub fn answers(&self, name: &str) -> bool {
        !self.denies_everything() || self.allows_name(name)
    }

    /// Every address is denied but what is allowed, and that is not every address.
    pub fn denies_everything(&self) -> bool {
        let is_opened = self.allow.iter().any(|allowed| match allowed {
            Allowed::Net(net) => net.is_everything(),
            Allowed::Name(_) => false,
        });
        self.deny.iter().any(Net::is_everything) && !is_opened
    }

    /// Everything is denied and nothing allowed.
    pub fn opens_nothing(&self) -> bool {
        self.denies_everything() && self.allow.is_empty()
    }

    /// A name is on the allow list.
    pub fn names_any(&self) -> bool {
        let mut allowed = self.allow.iter();
        allowed.any(|allowed| matches!(allowed, Allowed::Name(_)))
    }
}

impl TryFrom<Lists> for Egress {
    type Error = EgressError;

    fn try_from(lists: Lists) -> Result<Self, EgressError> {
        Self::new(&lists.allow, &lists.deny)
    }
}

impl From<Egress> for Lists {
    fn from(egress: Egress) -> Self {
        Self {
            allow: egress.allow(),
            deny: egress.deny(),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Name(pattern) if pattern.is_star => write!(f, "*.{}", pattern.name),
            Self::Name(pattern) => f.write_str(&pattern.name),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

impl Net {
    fn is_everything(&self) -> bool {
        self.0.addr().is_ipv4() && self.0.prefix_len() == 0
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        let Some(before) = name.strip_suffix(&self.name) else {
            return false;
        };
        if self.is_star {
            before.len() > 1 && before.ends_with('.')
        } else {
            before.is_empty()
        }
    }
}

/// A name as it is compared: in lower case, without the last dot.
pub fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn entries<S: AsRef<str>, T: PartialEq>(
    list: &'static str,
    texts: &[S],
    read: fn(&str) -> Result<T, EgressError>,
) -> Result<Vec<T>, EgressError> {
    if texts.len() > MAX_ENTRIES {
        let count = texts.len();
        return Err(EgressError::TooMany { list, count });
    }
    let mut read_ones = Vec::with_capacity(texts.len());
    for text in texts {
        let one = read(text.as_ref())?;
        if !read_ones.contains(&one) {
            read_ones.push(one);
        }
    }
    Ok(read_ones)
}

fn allowed(text: &str) -> Result<Allowed, EgressError> {
    match net("allow", text)? {
        Some(Net(net)) if net.addr().is_ipv6() => Err(EgressError::Ipv6 {
            entry: text.to_owned(),
        }),
        Some(net) => Ok(Allowed::Net(net)),
        None => pattern(text)
            .map(Allowed::Name)
            .ok_or_else(|| unknown("allow", text)),
    }
}

fn denied(text: &str) -> Result<Net, EgressError> {
    match net("deny", text)? {
        Some(net) => Ok(net),
        None if pattern(text).is_some() => Err(EgressError::DeniedName {
            entry: text.to_owned(),
        }),
        None => Err(unknown("deny", text)),
    }
}

/// An address or a network; nothing if it does not look like one.
fn net(list: &'static str, text: &str) -> Result<Option<Net>, EgressError> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Ok(Some(Net(IpNet::from(address.to_canonical()))));
    }
    match IpNet::from_str(text) {
        Err(_) => Ok(None),
        Ok(net) if net.trunc() == net => Ok(Some(Net(net))),
        Ok(net) => Err(EgressError::Bits {
            list,
            entry: text.to_owned(),
            network: net.trunc(),
        }),
    }
}

/// A name that hosts can have. One whose last part is a number would be an address to many programs.
fn pattern(text: &str) -> Option<Pattern> {
    let (is_star, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let name = normal(name);
    let is_label = |label: &str| {
        let letters = label.bytes();
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && letters
                .clone()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit('.').next()?;
    let is_number = last.bytes().all(|b| b.is_ascii_digit());
    let is_name = name.len() < MAX_BYTES && name.split('.').all(is_label) && !is_number;
    is_name.then_some(Pattern { name, is_star })
}

fn unknown(list: &'static str, text: &str) -> EgressError {
    let plain = text.chars().filter(|c| !c.is_control());
    EgressError::Unknown {
        list,
        entry: plain.take(80).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> Egress {
        Egress::new(allow, deny).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn allowed_goes_before_denied_and_the_rest_is_open() {
        let some = rules(&["192.0.2.7", "198.51.100.0/24"], &["192.0.2.0/24"]);
        assert_eq!(some.denied_by(ip("192.0.2.7")), None);
        assert_eq!(
            some.denied_by(ip("192.0.2.8")).unwrap().to_string(),
            "192.0.2.0/24"
        );
        assert_eq!(some.denied_by(ip("8.8.8.8")), None);
        assert!(some.answers("anything.example"));
        let only = rules(&["198.51.100.0/24", "example.org"], &[EVERYTHING]);
        assert_eq!(only.denied_by(ip("198.51.100.9")), None);
        assert!(only.denied_by(ip("8.8.8.8")).is_some());
        assert!(only.answers("Example.ORG.") && !only.answers("example.com"));
        assert!(Egress::default().is_empty() && Egress::default().answers("a.b"));
        assert!(rules(&[EVERYTHING], &[EVERYTHING]).answers("example.com"));
    }

    #[test]
    fn a_star_is_for_what_is_below_alone() {
        let egress = rules(&["*.example.com", "example.org"], &[EVERYTHING]);
        for yes in ["a.example.com", "a.b.example.com.", "EXAMPLE.org"] {
            assert!(egress.allows_name(yes), "{yes}");
        }
        for no in [
            "example.com",
            ".example.com",
            "notexample.com",
            "a.example.org",
            "example.com.evil.net",
            "",
        ] {
            assert!(!egress.allows_name(no), "{no}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let allow = |entry: &str| Egress::new(&[entry], &[]).unwrap_err().to_string();
        let deny = |entry: &str| Egress::new(&[], &[entry]).unwrap_err().to_string();
        let long = "a".repeat(64);
        for entry in [
            "",
            "*",
            "*.",
            ".",
            "a..b",
            "-a.com",
            "a b",
            "https://a.com",
            "a.com:443",
            "1.2.3",
            "1.2.3.4/33",
            "*.1.2.3.4",
            "bücher.example",
            &long,
        ] {
            assert!(allow(entry).contains(&format!("allow: `{entry}` is no address")));
            assert!(deny(entry).contains("is no address"), "{entry}");
        }
        assert!(allow("10.1.2.3/8").contains("write 10.0.0.0/8"));
        assert!(allow("2606::/16").contains("IPv4"));
        assert!(deny("*.example.com").contains("only addresses"));
        assert_eq!(rules(&[], &["::/0"]).deny(), ["::/0"]);
        let many = vec!["192.0.2.1"; MAX_ENTRIES + 1];
        assert!(Egress::new(&many, &[]).is_err());
    }

    #[test]
    fn an_entry_has_one_way_to_be_written() {
        let egress = rules(
            &["Example.COM.", "1.2.3.4/32", "1.2.3.4", "*.A.b"],
            &["10.0.0.0/8"],
        );
        assert_eq!(egress.allow(), ["example.com", "1.2.3.4", "*.a.b"]);
        let text = serde_json::to_string(&egress).unwrap();
        assert_eq!(serde_json::from_str::<Egress>(&text).unwrap(), egress);
        assert!(serde_json::from_str::<Egress>(r#"{"allow":["a b"]}"#).is_err());
    }

    fn entry() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| IpAddr::from(ip).to_string()),
            (any::<[u8; 4]>(), 0_u8..=32).prop_map(|(ip, prefix)| {
                IpNet::new(ip.into(), prefix).unwrap().trunc().to_string()
            }),
            "(\\*\\.)?([a-zA-Z0-9]{1,5}\\.){0,3}[a-z]{2,6}\\.?",
        ]
    }

    proptest! {
        #[test]
        fn writing_and_reading_change_nothing(allow in prop::collection::vec(entry(), 0..20)) {
            let egress = Egress::new(&allow, &[]).unwrap();
            prop_assert_eq!(&Egress::new(&egress.allow(), &[]).unwrap(), &egress);
        }

        #[test]
        fn no_text_makes_it_panic(text: String, name: String) {
            if let Ok(egress) = Egress::new(&[&text], &[]) {
                prop_assert_eq!(egress.allow().len(), 1);
                egress.allows_name(&name);
            }
        }

        /// A denied address stays denied whatever names are allowed, and an allowed one open whatever is denied.
        #[test]
        fn addresses_do_not_depend_on_names(address: [u8; 4], names in prop::collection::vec("[a-z]{1,5}\\.[a-z]{2,3}", 0..5)) {
            let address = IpAddr::from(address);
            let closed = Egress::new(&names, &[EVERYTHING.to_owned()]).unwrap();
            prop_assert!(closed.denied_by(address).is_some());
            let open = Egress::new(&[address.to_string()], &[EVERYTHING.to_owned()]).unwrap();
            prop_assert_eq!(open.denied_by(address), None);
        }
    }
}
