//! Tickets: one upload each, without a key, for clients that are sent elsewhere to upload.

use skerry_proto::node::ByteStream;
use skerry_store::Tenant;
use skerry_types::{Error, ErrorCode, OrgId, Result};
use subtle::ConstantTimeEq;

use crate::{Caller, Control};

const PURPOSE: &str = "upload-ticket";
/// How long one counts, in seconds: the longest that clients take for an upload.
const VALID: i64 = 3600;

impl Control {
    /// A text that lets whoever has it upload this archive, for an hour.
    pub fn upload_ticket(&self, caller: &Caller, hash: &str) -> String {
        let until = self.now().as_second() + VALID;
        let what = format!("{}.{hash}.{until}", caller.tenant.org().label());
        let tag = self.ticket_tag(&what);
        format!("{what}.{tag}")
    }

    /// Takes an archive from whoever has a ticket for it. The name says what is in it, and is not the SHA-256 of its bytes.
    pub async fn upload_with(&self, ticket: &str, content: ByteStream) -> Result<()> {
        let refused = || {
            Error::new(
                ErrorCode::Forbidden,
                "this upload link does not count any more",
            )
        };
        let (what, tag) = ticket.rsplit_once('.').ok_or_else(refused)?;
        let right = self.ticket_tag(what);
        if !bool::from(tag.as_bytes().ct_eq(right.as_bytes())) {
            return Err(refused());
        }
        let mut parts = what.split('.');
        let (Some(org), Some(hash), Some(until)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(refused());
        };
        let org: OrgId = org.parse().map_err(|_| refused())?;
        if until.parse::<i64>().map_err(|_| refused())? < self.now().as_second() {
            return Err(refused());
        }
        self.upload_for(&Tenant::of(org), hash, content, false)
            .await
    }

    fn ticket_tag(&self, what: &str) -> String {
        let tag = self.sign(PURPOSE, what.as_bytes());
        tag[..16].iter().map(|b| format!("{b:02x}")).collect()
    }
}
