//! Where images may come from: what the machine's owner judges open, and registries that are named one by one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::Host;

/// Why nothing may be fetched from an address; `None`: it may.
pub type Judge = dyn Fn(IpAddr) -> Option<String> + Send + Sync;

/// Registries lead to a download elsewhere by one redirect, some by two.
const MAX_REDIRECTS: usize = 5;

type LookUpError = Box<dyn std::error::Error + Send + Sync>;

/// The hosts that images may come from. Cheap to clone; nowhere unless said.
#[derive(Clone)]
pub struct Reach(Arc<Rules>);

struct Rules {
    judge: Box<Judge>,
    private: Vec<PrivateRegistry>,
    /// Hosts that requests go through; they are the operator's choice.
    proxies: Vec<String>,
}

/// A registry that may be asked wherever it is: `HOST[:PORT]`, or `http://HOST[:PORT]` for one without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateRegistry(Url);

/// Why nothing is fetched from there.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Refused {
    /// Host and port; `None`: those of the request.
    pub(crate) host: Option<String>,
    pub(crate) reason: String,
}

impl Reach {
    /// Addresses are open unless `judge` says why not; `private` registries are, wherever they are.
    pub fn new(
        judge: impl Fn(IpAddr) -> Option<String> + Send + Sync + 'static,
        private: Vec<PrivateRegistry>,
    ) -> Self {
        Self(Arc::new(Rules {
            judge: Box::new(judge),
            private,
            proxies: proxies(),
        }))
    }

    /// The root of a registry's API. Without TLS where its entry says so, and on loopback.
    pub(crate) fn root(&self, registry: &str) -> Option<Url> {
        let with = |scheme| Url::parse(&format!("{scheme}://{registry}/v2/")).ok();
        let (plain, tls) = (with("http")?, with("https")?);
        let is_plain = self.is_private(&plain) || (is_loopback(&plain) && !self.is_private(&tls));
        Some(if is_plain { plain } else { tls })
    }

    /// Before a request is sent there. A name is judged by [`Resolve`] too, once its addresses are known.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        if self.is_private(url) {
            return Ok(());
        }
        let reason = match url.host() {
            _ if url.scheme() != "https" && !is_loopback(url) => Some("it is asked without TLS"),
            None => Some("it has no name"),
            // Its addresses are not judged, so only what the operator meant may be asked there.
            Some(Host::Domain(name)) if self.is_named(name) => Some("not at this port"),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => return self.judge(address.into(), Some(url)),
            Some(Host::Ipv6(address)) => return self.judge(address.into(), Some(url)),
        };
        refuse(reason.map(str::to_owned), Some(url))
    }

    /// Follows a redirect where a request could go as well.
    pub(crate) fn redirects(&self) -> Policy {
        let reach = self.clone();
        Policy::custom(move |attempt| match reach.check(attempt.url()) {
            Err(refused) => attempt.error(refused),
            Ok(()) if attempt.previous().len() > MAX_REDIRECTS => {
                attempt.error("it redirects too often")
            }
            Ok(()) => attempt.follow(),
        })
    }

    fn judge(&self, address: IpAddr, url: Option<&Url>) -> Result<(), Refused> {
        refuse((self.0.judge)(address), url)
    }

    fn is_private(&self, url: &Url) -> bool {
        let is_it = |entry: &PrivateRegistry| {
            let (named, asked) = (&entry.0, url);
            named.scheme() == asked.scheme()
                && named.host_str() == asked.host_str()
                && named.port_or_known_default() == asked.port_or_known_default()
        };
        self.0.private.iter().any(is_it)
    }

    /// Whether the operator named this host, as a registry or a proxy.
    fn is_named(&self, host: &str) -> bool {
        let registries = self.0.private.iter().filter_map(|entry| entry.0.host_str());
        let proxies = self.0.proxies.iter().map(String::as_str);
        registries.chain(proxies).any(|name| name == host)
    }

    /// What a name leads to, without the addresses that are not open.
    async fn look_up(&self, host: &str) -> Result<Vec<SocketAddr>, LookUpError> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        if self.is_named(host) {
            return Ok(found.collect());
        }
        let mut closed = None;
        let mut open = Vec::new();
        for address in found {
            match self.judge(address.ip(), None) {
                Ok(()) => open.push(address),
                Err(refused) => closed = Some(refused),
            }
        }
        match closed {
            Some(refused) if open.is_empty() => Err(Box::new(refused)),
            _ => Ok(open),
        }
    }
}

impl Default for Reach {
    fn default() -> Self {
        Self::new(
            |_| Some("this store pulls from nowhere".to_owned()),
            Vec::new(),
        )
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reach").field(&self.0.private).finish()
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let open = reach.look_up(name.as_str()).await?;
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

impl FromStr for PrivateRegistry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with = |scheme| Url::parse(&format!("{scheme}://{text}"));
        let url = match (text.contains("://"), with("http")) {
            (true, _) => Url::parse(text),
            (false, Ok(plain)) if is_loopback(&plain) => Ok(plain),
            (false, _) => with("https"),
        };
        let is_root = |url: &Url| {
            let rest = (url.path(), url.query(), url.fragment(), url.password());
            rest == ("/", None, None, None) && url.username().is_empty()
        };
        url.ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && is_root(url))
            .map(Self)
            .ok_or_else(|| "it must be HOST[:PORT] or http://HOST[:PORT]".to_owned())
    }
}

fn refuse(reason: Option<String>, url: Option<&Url>) -> Result<(), Refused> {
    let host = url.map(place);
    reason.map_or(Ok(()), |reason| Err(Refused { host, reason }))
}

/// Host and port, as an operator would name them.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    format!("{host}{}", port.unwrap_or_default())
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The hosts in the variables from which the HTTP client takes its proxies.
fn proxies() -> Vec<String> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let both = names.map(str::to_owned).into_iter();
    let values = both.clone().chain(both.map(|name| name.to_lowercase()));
    values
        .filter_map(|name| host_of(&std::env::var(name).ok()?))
        .collect()
}

/// Of an address that may come without its scheme.
fn host_of(proxy: &str) -> Option<String> {
    let host = |text: &str| Url::parse(text).ok()?.host_str().map(str::to_owned);
    host(proxy).or_else(|| host(&format!("http://{proxy}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loopback is closed, the rest is open.
    fn reach(private: &[&str]) -> Reach {
        let private = private.iter().map(|text| text.parse().unwrap()).collect();
        let judge = |address: IpAddr| address.is_loopback().then(|| "closed".to_owned());
        Reach::new(judge, private)
    }

    #[test]
    fn only_what_is_open_or_named_is_asked() {
        let reach = reach(&[
            "localhost:5000",
            "http://lan.example:8080",
            "127.0.0.1:5001",
        ]);
        for (url, is_open) in [
            ("https://example.org/v2/", true),
            ("https://192.0.2.7/v2/", true),
            ("http://example.org/v2/", false),
            ("http://192.0.2.7/v2/", false),
            ("https://127.0.0.1/", false),
            ("https://2130706433/", false),
            ("https://[::1]:5001/", false),
            ("http://127.0.0.1:5001/token", true),
            ("http://127.0.0.1:5002/token", false),
            ("http://localhost:5000/v2/", true),
            ("http://LOCALHOST:5000/v2/", true),
            ("http://localhost:22/", false),
            ("https://localhost:5000/", false),
            ("http://lan.example:8080/", true),
            ("https://lan.example/", false),
            ("ftp://example.org/", false),
        ] {
            let url: Url = url.parse().unwrap();
            assert_eq!(reach.check(&url).is_ok(), is_open, "{url}");
        }
    }

    #[test]
    fn tls_is_left_out_on_loopback_and_where_the_operator_says_so() {
        let reach = reach(&["http://lan.example", "https://127.0.0.1:5001"]);
        for (registry, scheme) in [
            ("index.docker.io", "https"),
            ("lan.example", "http"),
            ("lan.example:443", "https"),
            ("localhost:5000", "http"),
            ("127.0.0.1:5001", "https"),
        ] {
            assert_eq!(reach.root(registry).unwrap().scheme(), scheme, "{registry}");
        }
    }

    #[test]
    fn a_registry_is_named_by_its_host() {
        for text in [
            "",
            "a/b",
            "ftp://a",
            "http://me:pw@a",
            "http://a/?x",
            "a b",
            "a:99999",
        ] {
            assert!(text.parse::<PrivateRegistry>().is_err(), "{text}");
        }
        let named = |text: &str| text.parse::<PrivateRegistry>().unwrap().0.to_string();
        assert_eq!(named("Lan.example:5000"), "https://lan.example:5000/");
        assert_eq!(named("[::1]:5000"), "http://[::1]:5000/");
    }

    #[tokio::test]
    async fn a_name_is_judged_by_where_it_leads() {
        let closed = reach(&[]).look_up("localhost").await.unwrap_err();
        assert!(closed.downcast_ref::<Refused>().is_some(), "{closed}");
        let named = reach(&["localhost:5000"]);
        assert!(named.look_up("localhost").await.is_ok());
    }

    #[test]
    fn a_proxy_may_come_without_a_scheme() {
        for text in ["proxy.example:3128", "http://me:pw@proxy.example:3128/"] {
            assert_eq!(host_of(text).unwrap(), "proxy.example");
        }
    }
}
