//! Links to one file that need no token: they show that whoever made them had it.

use axum::http::{HeaderMap, Method, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use skerry_control::Control;
use skerry_types::SandboxId;

use crate::place::text;
use crate::token;

/// Where files are.
pub(crate) const FILES: &str = "/files";
/// Characters of a signature.
const SIGNATURE: usize = 46;

/// What the query of a signed link says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Signed {
    path: String,
    username: String,
    signature: String,
    /// Seconds since 1970.
    signature_expiration: Option<String>,
}

/// What a request for a file shows of its right to it.
#[derive(Debug)]
pub(crate) struct Access<'p> {
    token: Option<&'p str>,
    method: &'static str,
    signed: Signed,
}

impl<'p> Access<'p> {
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &'p HeaderMap) -> Self {
        let query = uri.query().filter(|_| uri.path() == FILES);
        Self {
            token: text(headers, "x-access-token"),
            method: if method.is_safe() { "read" } else { "write" },
            signed: serde_html_form::from_str(query.unwrap_or_default()).unwrap_or_default(),
        }
    }

    /// Whether it is enough for this sandbox. Whoever shows a token is judged by that.
    pub(crate) fn is_enough(&self, control: &Control, sandbox: SandboxId) -> bool {
        match self.token {
            Some(token) => token::is_envd(control, sandbox, token),
            None => self.is_signed(control, sandbox) && !self.is_over(),
        }
    }

    fn is_signed(&self, control: &Control, sandbox: SandboxId) -> bool {
        let wanted = self.signature(&token::envd(control, sandbox));
        token::is_same(&self.signed.signature, &wanted)
    }

    fn signature(&self, token: &str) -> String {
        let Signed { path, username, .. } = &self.signed;
        let mut signed = format!("{path}:{}:{username}:{token}", self.method);
        if let Some(end) = &self.signed.signature_expiration {
            signed = format!("{signed}:{end}");
        }
        format!("v1_{}", STANDARD_NO_PAD.encode(Sha256::digest(signed)))
    }

    /// A time that cannot be read is over.
    fn is_over(&self) -> bool {
        let end = self.signed.signature_expiration.as_ref();
        end.is_some_and(|end| {
            end.parse()
                .map_or(true, |end: i64| end < Timestamp::now().as_second())
        })
    }

    /// The sandbox that a signature is for, if the request has nothing else to find it by.
    pub(crate) fn sandbox(&self, control: &Control) -> Option<SandboxId> {
        if self.token.is_some() || self.signed.signature.len() != SIGNATURE {
            return None;
        }
        let mut all = control.live_sandboxes().into_iter();
        all.find(|sandbox| self.is_signed(control, *sandbox))
    }
}
