//! Identifiers: a UUIDv7 inside, and three spellings outside.
//!
//! * wire form: prefix and 22 base62 digits, `sb_01K…`; string order is creation order.
//! * label: 26 lower-case base32 digits, for host names, which do not keep case.
//! * UUID form: prefix, hyphen and the UUID, accepted on input only.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// RFC 4648 base32hex in lower case: keeps the order of the number it writes.
const BASE32: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const WIRE_DIGITS: usize = 22;
const LABEL_DIGITS: usize = 26;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no {kind}: an id is `{prefix}_` and 22 letters or digits")]
pub struct ParseIdError {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

/// Writes 16 bytes as 22 base62 digits.
pub fn base62_encode(value: u128) -> String {
    digits::<WIRE_DIGITS>(value, BASE62)
}

/// Reads exactly 22 base62 digits; `None` for other lengths, characters or overflow.
pub fn base62_decode(text: &str) -> Option<u128> {
    undigits(text, WIRE_DIGITS, BASE62)
}

fn digits<const N: usize>(mut value: u128, alphabet: &[u8]) -> String {
    let base = alphabet.len() as u128;
    let mut out = [alphabet[0]; N];
    for slot in out.iter_mut().rev() {
        *slot = alphabet[(value % base) as usize];
        value /= base;
    }
    out.iter().map(|&b| char::from(b)).collect()
}

fn undigits(text: &str, len: usize, alphabet: &[u8]) -> Option<u128> {
    if text.len() != len {
        return None;
    }
    text.bytes().try_fold(0u128, |acc, b| {
        let digit = alphabet.iter().position(|&a| a == b)? as u128;
        acc.checked_mul(alphabet.len() as u128)?.checked_add(digit)
    })
}

fn parse(text: &str, kind: &'static str, prefix: &'static str) -> Result<Uuid, ParseIdError> {
    let wire = || {
        text.strip_prefix(prefix)?
            .strip_prefix('_')
            .and_then(base62_decode)
    };
    let label = || undigits(text, LABEL_DIGITS, BASE32);
    let uuid = || {
        let rest = text.strip_prefix(prefix)?.strip_prefix('-')?;
        Uuid::try_parse(rest).ok().map(|u| u.as_u128())
    };
    wire()
        .or_else(label)
        .or_else(uuid)
        .map(Uuid::from_u128)
        .ok_or_else(|| ParseIdError {
            text: text.chars().take(80).collect(),
            kind,
            prefix,
        })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// What stands before the underscore in the wire form.
            pub const PREFIX: &'static str = $prefix;

            /// A new id; ids made one after another never sort backwards.
            #[expect(clippy::new_without_default, reason = "a default id would not be an id")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id that these 16 bytes are.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The stored form.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The 16 bytes.
            pub const fn bytes(self) -> [u8; 16] {
                *self.0.as_bytes()
            }

            /// The id in 16 bytes, if there are 16.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The lower-case form for host names and folders.
            pub fn label(self) -> String {
                digits::<LABEL_DIGITS>(self.0.as_u128(), BASE32)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), base62_encode(self.0.as_u128()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text, $kind, $prefix).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A sandbox.
    SandboxId, "sandbox", "sb";
    /// One command in a sandbox.
    ExecId, "exec", "ex";
    /// A stateful shell in a sandbox.
    SessionId, "session", "sess";
    /// A file collected for keeping.
    ArtifactId, "artifact", "art";
    /// What a root file system starts from.
    ImageId, "image", "img";
    /// A size of sandbox.
    ProfileId, "profile", "prof";
    /// A machine that runs sandboxes.
    NodeId, "node", "node";
    /// A project that sandboxes belong to.
    ProjectId, "project", "proj";
    /// A tenant. Not one of the eight public resources, but the same shape.
    OrgId, "org", "org";
    /// A sandbox frozen to disk.
    SnapshotId, "snapshot", "snap";
    /// A named image with defaults.
    TemplateId, "template", "tpl";
    /// One attempt to make a template.
    BuildId, "build", "bld";
    /// A folder that outlives sandboxes and that several can have at once.
    VolumeId, "volume", "vol";
    /// An API key: the record, not the secret.
    KeyId, "key", "key";
}

impl OrgId {
    /// The one organisation of a single-machine installation.
    pub const LOCAL: Self = Self(Uuid::from_u128(1));
    /// The organisation that owns what all others share.
    pub const PLATFORM: Self = Self(Uuid::nil());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_uuid_v7_and_never_sort_backwards() {
        let made: Vec<SandboxId> = (0..10_000).map(|_| SandboxId::new()).collect();
        for pair in made.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
            assert!(pair[0].label() < pair[1].label());
        }
        let uuid = made[0].uuid();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.as_bytes()[8] >> 6, 0b10);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64;
        let born = u64::from_be_bytes(uuid.as_bytes()[..8].try_into().unwrap()) >> 16;
        assert!(now.abs_diff(born) < 60_000);
    }

    #[test]
    fn edges_of_the_number_range() {
        for value in [0, 1, u128::MAX] {
            assert_eq!(base62_decode(&base62_encode(value)), Some(value));
        }
        let max = base62_encode(u128::MAX);
        assert_eq!(max.len(), 22);
        assert_eq!(base62_decode("zzzzzzzzzzzzzzzzzzzzzz"), None, "overflow");
        assert_eq!(base62_decode(&format!("0{max}")), None, "too long");
        assert_eq!(base62_decode(&max[1..]), None, "too short");
        assert_eq!(base62_decode("000000000000000000000-"), None, "bad digit");
        assert_eq!(undigits(&"v".repeat(26), 26, BASE32), None, "overflow");
    }

    #[test]
    fn a_prefix_names_the_kind() {
        let id = SandboxId::new();
        assert!(id.to_string().parse::<ExecId>().is_err());
        let error = "sb_nonsense".parse::<SandboxId>().unwrap_err();
        assert!(error.to_string().contains("names no sandbox"));
        for prefix in [
            SandboxId::PREFIX,
            ExecId::PREFIX,
            SessionId::PREFIX,
            ArtifactId::PREFIX,
            ImageId::PREFIX,
            ProfileId::PREFIX,
            NodeId::PREFIX,
            ProjectId::PREFIX,
        ] {
            assert!(prefix.len() <= 4);
        }
    }

    proptest! {
        #[test]
        fn every_spelling_round_trips(value: u128) {
            let id = SandboxId::from_uuid(Uuid::from_u128(value));
            prop_assert_eq!(id.to_string().len(), 25);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.label().parse(), Ok(id));
            prop_assert_eq!(format!("sb-{}", id.uuid()).parse(), Ok(id));
            prop_assert_eq!(SandboxId::from_slice(&id.bytes()), Some(id));
        }

        #[test]
        fn no_text_makes_parsing_panic(text: String) {
            let _parsed: Result<SandboxId, _> = text.parse();
        }

        #[test]
        fn wire_order_is_number_order(a: u128, b: u128) {
            prop_assert_eq!(a.cmp(&b), base62_encode(a).cmp(&base62_encode(b)));
        }
    }
}
