//! What the address of a port looks like to whoever asks for it.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::HeaderValue;
use skerry_types::{Error, Result};

use super::Target;
use crate::{Settings, guard};

/// Says of a request that it came over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secure;

/// Says of a request who connected to this server for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    /// Of whoever a listener names so; nobody where that is no internet address.
    pub(crate) fn of(address: &dyn Any) -> Option<Self> {
        let address: &SocketAddr = address.downcast_ref()?;
        Some(Self(address.ip().to_canonical()))
    }

    /// For a header.
    pub(super) fn value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0.to_string()).ok()
    }
}

/// `http`, or `https` where the request came over TLS.
pub(crate) fn scheme(request: &Request) -> &'static str {
    let is_secure = request.extensions().get::<Secure>().is_some();
    if is_secure { "https" } else { "http" }
}

/// The address of a port, as this request's client reaches it: below the domain that it used itself, at the same port of ours.
pub(crate) fn address(settings: &Settings, request: &Request, target: Target) -> Result<String> {
    let host = guard::host(request).unwrap_or_default();
    let name = guard::name_of(&host);
    let own_port = host.strip_prefix(name).unwrap_or_default();
    let domain = domain(settings, name).ok_or_else(|| {
        Error::unsupported("this server has no domain below which ports could have names")
            .with_hint("start it with --domains, or ask it by a name below `localhost`")
    })?;
    let host = target.host(domain);
    Ok(format!("{}://{host}{own_port}/", scheme(request)))
}

/// The domain that was used, else the operator's first; `localhost` for who is on this machine.
fn domain<'s>(settings: &'s Settings, name: &str) -> Option<&'s str> {
    let is_below = |domain: &str| {
        name.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let domains = settings.domains.iter().map(String::as_str);
    let is_here = ["127.0.0.1", "[::1]"].contains(&name);
    domains
        .clone()
        .find(|domain| is_below(domain))
        .or_else(|| (is_here || is_below("localhost")).then_some("localhost"))
        .or_else(|| domains.clone().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_below_the_domain_that_was_asked() {
        let with = |domains: &[&str]| Settings {
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            ..Settings::default()
        };
        let (none, two) = (with(&[]), with(&["a.example", "b.example"]));
        for (name, alone, named) in [
            ("localhost", Some("localhost"), Some("localhost")),
            ("127.0.0.1", Some("localhost"), Some("localhost")),
            ("api.b.example", None, Some("b.example")),
            ("192.0.2.1", None, Some("a.example")),
        ] {
            assert_eq!(domain(&none, name), alone, "{name}");
            assert_eq!(domain(&two, name), named, "{name}");
        }
    }
}
