//! Who gets in: the right host name, no foreign web page, and a key for everything but a short list.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::{MatchedPath, Request};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use skerry_control::{Kind, Standing};
use skerry_types::{Error, ErrorCode, Result};

use crate::edge::Entry;
use crate::{App, Settings};

/// What is answered without a key. Nothing here says anything about a tenant.
const OPEN: [&str; 11] = [
    "/",
    "/health",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/llms.txt",
    "/ca.pem",
    "/docs",
    "/docs/",
    "/docs/{*rest}",
    "/docs/openapi.json",
];

/// Lets a request in, with its caller put where handlers find it, or says why not. Where the org has limits, `standing` is where it stands.
pub(crate) async fn admit(
    app: &App,
    entry: Entry,
    request: &mut Request,
    standing: &mut Option<Standing>,
) -> Result<()> {
    let host = host(request).ok_or_else(misdirected)?;
    if !is_ours(&app.settings, name_of(&host)) {
        return Err(misdirected());
    }
    let route = request.extensions().get::<MatchedPath>();
    let open = route.is_some_and(|route| OPEN.contains(&route.as_str()));
    if open || entry == Entry::Open {
        return Ok(());
    }
    if entry == Entry::Key {
        refuse_foreign_pages(&app.settings, request.headers(), &host)?;
    }
    let key = key(request.headers()).ok_or_else(|| {
        Error::new(ErrorCode::Unauthorized, "this needs a key")
            .with_hint("send it as `Authorization: Bearer …` or `X-API-Key: …`")
    })?;
    let caller = app.control.authenticate(key).await?;
    *standing = app.control.count(&caller, kind(request)).await?;
    if let Some(standing) = standing {
        standing.admit()?;
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

/// What a request counts as.
fn kind(request: &Request) -> Kind {
    let route = request.extensions().get::<MatchedPath>();
    let end = route.and_then(|route| route.as_str().rsplit('/').next());
    match (request.method(), end) {
        (&Method::POST, Some("sandboxes" | "fork" | "forks" | "start")) => Kind::Create,
        (&Method::POST, Some("exec" | "pty" | "sessions")) => Kind::Exec,
        _ => Kind::Other,
    }
}

fn misdirected() -> Error {
    Error::new(
        ErrorCode::MisdirectedRequest,
        "this server does not answer to that host name",
    )
    .with_hint("use localhost or an address, or start the server with that name in --domains")
}

/// What the client calls us, with the port.
pub(crate) fn host(request: &Request) -> Option<String> {
    host_of(request.uri(), request.headers())
}

/// The same of a request's parts.
pub(crate) fn host_of(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let header = || headers.get(header::HOST)?.to_str().ok();
    let host = uri.authority().map(Authority::as_str).or_else(header)?;
    Some(host.to_ascii_lowercase())
}

/// Without the port. An IPv6 address keeps its brackets.
pub(crate) fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// DNS rebinding needs a name that an attacker controls, so addresses and names under our control are fine.
fn is_ours(settings: &Settings, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let under = |domain: &str| {
        name.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    name.parse::<Ipv4Addr>().is_ok()
        || bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok())
        || under("localhost")
        || settings.domains.iter().any(|domain| under(domain))
}

/// A browser says where a request comes from; a page of another site may not use the key that a proxy or extension adds.
pub(crate) fn refuse_foreign_pages(
    settings: &Settings,
    headers: &HeaderMap,
    host: &str,
) -> Result<()> {
    const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let foreign = match headers.get(header::ORIGIN) {
        Some(origin) => {
            let origin = origin.to_str().unwrap_or("null");
            !is_same_origin(origin, host) && !settings.origins.iter().any(|o| o == origin)
        }
        None => headers
            .get(SEC_FETCH_SITE)
            .is_some_and(|site| site != "same-origin" && site != "none"),
    };
    if foreign {
        return Err(Error::new(
            ErrorCode::Forbidden,
            "pages of other sites may not use this server",
        )
        .with_hint("start the server with that origin in --origins"));
    }
    Ok(())
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    let rest = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    };
    let header = || headers.get("x-api-key")?.to_str().ok().map(str::trim);
    bearer().or_else(header).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_an_attacker_can_point_at_us_are_not_ours() {
        let settings = Settings {
            domains: vec!["boxes.example".into()],
            ..Settings::default()
        };
        for ours in [
            "localhost",
            "localhost:8080",
            "8080-abc.localhost",
            "127.0.0.1:1",
            "[::1]:8080",
            "[::1]",
            "192.168.1.5",
            "boxes.example",
            "8080-abc.boxes.example:443",
            "localhost.",
        ] {
            assert!(is_ours(&settings, name_of(ours)), "{ours}");
        }
        for theirs in [
            "",
            "evil.example",
            "notlocalhost",
            "localhost.evil.example",
            "127.0.0.1.nip.example",
            "evilboxes.example",
            "[::1].evil.example",
            "2130706433",
        ] {
            assert!(!is_ours(&settings, name_of(theirs)), "{theirs}");
        }
    }
}
