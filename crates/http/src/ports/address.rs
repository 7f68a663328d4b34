//! What the address of a port looks like to whoever asks for it.

use std::any::Any;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{FromRef, FromRequestParts};
use axum::http::{Extensions, HeaderValue, request::Parts};
use skerry_types::Error;

use super::Target;
use crate::{App, Settings, guard};

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
pub(crate) fn scheme(extensions: &Extensions) -> &'static str {
    let is_secure = extensions.get::<Secure>().is_some();
    if is_secure { "https" } else { "http" }
}

/// How the client that sent a request reaches this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// `http`, or `https` where the request came over TLS.
    pub scheme: &'static str,
    /// This server, as the client named it, with the port if it named one.
    pub host: String,
    /// Below which ports of sandboxes have their names, with the port of this server; `None`: it has no such domain.
    pub domain: Option<String>,
}

impl Way {
    /// The address of a port.
    pub(crate) fn to(&self, target: Target) -> skerry_types::Result<String> {
        let domain = self.domain.as_deref().ok_or_else(|| {
            Error::unsupported("this server has no domain below which ports could have names")
                .with_hint("start it with --domains, or ask it by a name below `localhost`")
        })?;
        Ok(format!("{}://{}/", self.scheme, target.host(domain)))
    }
}

impl<S: Sync> FromRequestParts<S> for Way
where
    App: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let app = App::from_ref(state);
        let host = guard::host_of(&parts.uri, &parts.headers).unwrap_or_default();
        let name = guard::name_of(&host);
        let own_port = host.strip_prefix(name).unwrap_or_default();
        let domain = domain(&app.settings, name);
        Ok(Self {
            scheme: scheme(&parts.extensions),
            domain: domain.map(|domain| format!("{domain}{own_port}")),
            host,
        })
    }
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
