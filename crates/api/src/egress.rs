//! Where a sandbox may connect.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a sandbox with network `nat` may connect. Allowed goes before denied; what neither list has is open. Never opened are the host, private
/// networks, other sandboxes and metadata services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Addresses (`192.0.2.7`), networks (`192.0.2.0/24`), domains (`example.com`) and all below one (`*.example.com`); at most 256.
    pub allow: Vec<String>,
    /// Addresses and networks, at most 256. Left out, with something allowed: everything, `0.0.0.0/0`. Always there in answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<String>>,
}
