//! Which port of which sandbox a host name means.

use skerry_types::{Error, ErrorCode, Result, SandboxId};

/// A port of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Which port.
    pub port: u16,
}

/// What a host name of a port says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) port: u16,
    /// `None`: there can be no sandbox of that name.
    pub(super) sandbox: Option<SandboxId>,
}

impl Named {
    /// `None`: it is no host name of a port. `name` is lower-case and without a port of its own.
    pub(super) fn of(domains: &[String], name: &str) -> Option<Result<Self>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let below = |domain: &str| name.strip_suffix(domain)?.strip_suffix('.');
        let domains = domains.iter().map(String::as_str).chain(["localhost"]);
        let label = domains.filter_map(below).find(|rest| !rest.contains('.'))?;
        let (port, rest) = label.split_once('-')?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // Old clients put the name of a machine behind the sandbox.
        let sandbox = rest.split('-').next().unwrap_or_default();
        let port = port.parse().ok().filter(|port| *port > 0);
        let named = |port| Self {
            port,
            sandbox: sandbox.parse().ok(),
        };
        Some(port.map(named).ok_or_else(bad_port))
    }
}

/// The answer to a number that is no port.
pub(crate) fn bad_port() -> Error {
    Error::new(ErrorCode::BadRequest, "a port is a number from 1 to 65535")
}

impl Target {
    /// Its host name below this domain.
    pub(crate) fn host(self, domain: &str) -> String {
        format!("{}-{}.{domain}", self.port, self.sandbox.label())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(name: &str) -> Option<Result<Named>> {
        Named::of(&["boxes.example".into()], name)
    }

    #[test]
    fn a_port_is_named_below_every_domain_of_ours() {
        let sandbox = SandboxId::new();
        let label = sandbox.label();
        let named = |port, sandbox| Some(Ok(Named { port, sandbox }));
        for domain in ["localhost", "boxes.example", "localhost."] {
            let target = Target {
                sandbox,
                port: 3000,
            };
            assert_eq!(of(&target.host(domain)), named(3000, Some(sandbox)));
        }
        let with_machine = format!("1-{label}-machine.localhost");
        assert_eq!(of(&with_machine), named(1, Some(sandbox)));
        assert_eq!(of("65535-nobody.localhost"), named(65535, None));
        for bad in [
            "0-x.localhost",
            "65536-x.localhost",
            "99999999-x.boxes.example",
        ] {
            assert!(matches!(of(bad), Some(Err(_))), "{bad}");
        }
        for other in [
            "localhost",
            "x.localhost",
            "-x.localhost",
            "3000.localhost",
            "3000-x.example",
            "3000-x.notlocalhost",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(name in ".{0,80}") {
            let _either = of(&name);
        }
    }
}
