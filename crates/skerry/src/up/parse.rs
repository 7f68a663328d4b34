//! Values of `skerry up` that are checked before anything starts.

use std::net::Ipv4Addr;

use skerry_node::Publish;

/// The address of a PostgreSQL database, or the path of a file.
pub(super) fn database(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if matches!(scheme, None | Some("postgres" | "postgresql")) {
        return Ok(text.to_owned());
    }
    Err("it must be postgres://… or the path of an SQLite file".to_owned())
}

/// Ports of this machine, and the address that they are on: `8000-8999`, `0.0.0.0:8000-8999`, `[::1]:8000-8999`.
pub(super) fn publish(text: &str) -> Result<Publish, String> {
    let (address, ports) = match text.rsplit_once(':') {
        Some((address, ports)) => (address.trim_matches(['[', ']']).parse().ok(), ports),
        None => (Some(Ipv4Addr::LOCALHOST.into()), text),
    };
    let ports = ports.split_once('-').and_then(|(first, last)| {
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        (0 < first && first <= last).then_some(first..=last)
    });
    let publish = address.zip(ports);
    publish
        .map(|(address, ports)| Publish { address, ports })
        .ok_or_else(|| "it must be ports, such as 8000-8999 or 0.0.0.0:8000-8999".to_owned())
}

/// A host name, in the case that requests are compared in.
pub(super) fn domain(text: &str) -> Result<String, String> {
    if is_made_of(text, b".-") {
        return Ok(text.to_ascii_lowercase());
    }
    Err("it must be a host name, such as skerry.example.com".to_owned())
}

/// The origin of a page, as browsers write it.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    if host.is_some_and(|host| is_made_of(host, b".-:[]")) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("it must be scheme and host, such as https://app.example.com".to_owned())
}

fn is_made_of(text: &str, marks: &[u8]) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || marks.contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_never_match_is_refused() {
        assert_eq!(
            origin("https://App.example:8443").unwrap(),
            "https://app.example:8443"
        );
        for bad in [
            "app.example",
            "ftp://app",
            "https://",
            "https://app/",
            "https://*",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
        assert_eq!(domain("Skerry.example").unwrap(), "skerry.example");
        for bad in ["", "a b", "http://a", "a:80"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
        let published = publish("[::1]:8000-8001").unwrap();
        assert!(published.address.is_loopback() && published.ports == (8000..=8001));
        for bad in [
            "",
            "8000",
            "0-9",
            "9-8",
            "8000-70000",
            "localhost:8000-8001",
        ] {
            assert!(publish(bad).is_err(), "{bad}");
        }
        for (text, fits) in [
            ("/var/x.db", true),
            ("postgres://h/d", true),
            ("mysql://h/d", false),
        ] {
            assert_eq!(database(text).is_ok(), fits, "{text}");
        }
    }
}
