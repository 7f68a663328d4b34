//! What a registry wants to know of those who ask.

use http_auth::{ChallengeParser, ChallengeRef};
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

/// How to log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With user and password in every request.
    Basic,
    /// With a token, which is had at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// What a place for tokens answers; some write it under both names.
#[derive(Deserialize)]
pub(super) struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Answer {
    pub(super) fn token(self) -> Option<String> {
        self.token.or(self.access_token)
    }
}

/// What the registry asks for, a token before a password; `None`: nothing that we know.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter();
    let texts: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    let asked = || {
        texts
            .iter()
            .flat_map(|text| ChallengeParser::new(text).flatten())
    };
    let is_basic = |asked: ChallengeRef<'_>| asked.scheme.eq_ignore_ascii_case("basic");
    asked()
        .find_map(|asked| bearer(&asked))
        .or_else(|| asked().any(is_basic).then_some(Challenge::Basic))
}

fn bearer(asked: &ChallengeRef<'_>) -> Option<Challenge> {
    let value = |wanted: &str| {
        let mut all = asked.params.iter();
        let (_, value) = all.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(value.to_unescaped())
    };
    if !asked.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer {
        realm: value("realm")?,
        service: value("service"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&'static str]) -> Option<Challenge> {
        let lines = lines
            .iter()
            .map(|line| (WWW_AUTHENTICATE, line.parse().unwrap()));
        challenge(&lines.collect())
    }

    #[test]
    fn a_token_goes_before_a_password() {
        let bearer = |service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: "https://auth.example/token".to_owned(),
                service: service.map(str::to_owned),
            })
        };
        let plain = "Bearer realm=\"https://auth.example/token\"";
        let full = "BEARER realm=\"https://auth.example/token\",service=\"a \\\"b\\\"\",scope=\"x:y:pull,push\"";
        assert_eq!(of(&["Basic realm=\"x\"", plain]), bearer(None));
        assert_eq!(of(&[full]), bearer(Some("a \"b\"")));
        assert_eq!(of(&["Negotiate", "basic realm=x"]), Some(Challenge::Basic));
        for nothing in [&[][..], &["Bearer service=\"x\""], &["=,=\"", "Negotiate"]] {
            assert_eq!(of(nothing), None, "{nothing:?}");
        }
    }
}
