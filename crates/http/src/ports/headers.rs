//! What changes in a request and its answer on their way: what is said from one machine to the next, and what is ours.

use axum::http::header::{self, Entry};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use skerry_control::is_key;

use super::PARAMETER;

/// Said to the next machine only, beside what `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Said to us, or for us to say.
const OURS: [HeaderName; 8] = [
    header::EXPECT,
    HeaderName::from_static("http2-settings"),
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What both sides want to speak instead of HTTP, if a request or an answer says so.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(header::UPGRADE)?;
    let is_meant = tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    // HTTP/2 is spoken from machine to machine.
    let is_http = wanted.as_bytes().starts_with(b"h2");
    (is_meant && !is_http).then(|| wanted.clone())
}

/// Takes away what was said to this machine only.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers)
        .filter_map(|token| token.parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::CONNECTION).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Takes away what no program may see, and what only this server can know.
pub(super) fn hide(headers: &mut HeaderMap) {
    for name in &OURS {
        headers.remove(name);
    }
    for name in [header::AUTHORIZATION, X_API_KEY] {
        if let Entry::Occupied(entry) = headers.entry(name)
            && entry.iter().any(is_ours)
        {
            entry.remove_entry_mult();
        }
    }
    hide_cookie(headers);
}

fn is_ours(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| is_key(bare(value)))
}

/// A key with or without its scheme.
pub(super) fn bare(value: &str) -> &str {
    match value.trim().split_once(' ') {
        Some((_scheme, rest)) => rest.trim(),
        None => value.trim(),
    }
}

/// Each cookie, as `name=value`.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim)
}

/// Leaves the others, in one line: HTTP/1.1 knows only one.
fn hide_cookie(headers: &mut HeaderMap) {
    let theirs: Vec<&str> = cookies(headers)
        .filter(|cookie| token(cookie).is_none())
        .collect();
    let line = HeaderValue::from_str(&theirs.join("; ")).ok();
    headers.remove(header::COOKIE);
    if let Some(line) = line.filter(|line| !line.is_empty()) {
        headers.insert(header::COOKIE, line);
    }
}

/// What our own cookie holds.
pub(super) fn token(cookie: &str) -> Option<&str> {
    cookie.strip_prefix(PARAMETER)?.strip_prefix('=')
}

/// A program sets cookies for itself, and not for all that is below the domain.
pub(super) fn keep_cookies_home(headers: &mut HeaderMap) {
    let set: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in set {
        headers.append(header::SET_COOKIE, at_home(cookie));
    }
}

fn at_home(cookie: HeaderValue) -> HeaderValue {
    let is_domain = |part: &&[u8]| {
        let name = part.split(|b| *b == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"domain")
    };
    let parts: Vec<&[u8]> = cookie.as_bytes().split(|b| *b == b';').collect();
    let (first, attributes) = parts.split_at(1);
    let kept: Vec<&[u8]> = first
        .iter()
        .chain(attributes.iter().filter(|part| !is_domain(part)))
        .copied()
        .collect();
    HeaderValue::from_bytes(&kept.join(&b';')).unwrap_or(cookie)
}
