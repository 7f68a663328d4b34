//! Links that let a browser in without a key: an address that is good for one port until a time, and the cookie that it is turned into.

use std::fmt::Write as _;

use axum::http::Uri;
use jiff::Timestamp;
use skerry_control::Control;
use subtle::ConstantTimeEq;

use super::Target;

/// The name of the parameter, and of the cookie.
pub(crate) const PARAMETER: &str = "skerry_access";
const PURPOSE: &str = "port-link";

/// Lets whoever has it use one port until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) target: Target,
    pub(crate) until: Timestamp,
}

impl Link {
    /// What the parameter and the cookie hold.
    pub(crate) fn token(self, control: &Control) -> String {
        let until = self.until.as_second();
        let Target { sandbox, port } = self.target;
        let tag = control.sign(PURPOSE, format!("{sandbox} {port} {until}").as_bytes());
        let mut token = format!("{until}.");
        for byte in tag {
            // Writing to a string cannot fail.
            let _: std::fmt::Result = write!(token, "{byte:02x}");
        }
        token
    }

    /// The link of this token, if it lets somebody use that port now.
    pub(super) fn of(control: &Control, target: Target, token: &str) -> Option<Self> {
        let (until, _) = token.split_once('.')?;
        let until = Timestamp::from_second(until.parse().ok()?).ok()?;
        let link = Self { target, until };
        let is_same: bool = token
            .as_bytes()
            .ct_eq(link.token(control).as_bytes())
            .into();
        (is_same && until > Timestamp::now()).then_some(link)
    }
}

/// The token in an address, and the path without it.
pub(super) fn token_in(uri: &Uri) -> Option<(&str, String)> {
    let (mut token, mut others) = (None, Vec::new());
    for pair in uri.query()?.split('&') {
        match pair.split_once('=') {
            Some((PARAMETER, value)) => token = Some(value),
            _ => others.push(pair),
        }
    }
    // Two slashes at the beginning would lead to another host.
    let mut path = format!("/{}", uri.path().trim_start_matches('/'));
    if !others.is_empty() {
        path.push('?');
        path.push_str(&others.join("&"));
    }
    Some((token?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_and_nothing_else_is_taken_out_of_an_address() {
        for (given, expected) in [
            ("/a?skerry_access=1.f", Some(("1.f", "/a"))),
            (
                "/?x=1&skerry_access=1.f&y=%26",
                Some(("1.f", "/?x=1&y=%26")),
            ),
            (
                "//evil.example/?skerry_access=1.f",
                Some(("1.f", "/evil.example/")),
            ),
            ("/a?other_skerry_access=1", None),
            ("/a?skerry_access", None),
            ("/a", None),
        ] {
            let uri: Uri = given.parse().unwrap();
            let found = token_in(&uri);
            let found = found.as_ref().map(|(token, path)| (*token, path.as_str()));
            assert_eq!(found, expected, "{given}");
        }
    }
}
