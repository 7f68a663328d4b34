//! Where a port of a sandbox is reached.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Addresses of a port of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortAddress {
    /// The port inside.
    pub port: u16,
    /// For programs, which send a key as `X-API-Key`; for everybody where the sandbox has `public_ports`.
    pub url: String,
    /// For a browser: it needs no key, and lets in whoever has it.
    pub signed_url: String,
    /// Until when that lets somebody in.
    pub expires_at: Timestamp,
}

/// A port of a sandbox that is reached at a port of the host, by whoever reaches that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedPort {
    /// The port inside.
    pub port: u16,
    /// The port of the host.
    pub host_port: u16,
    /// Where that is. What is spoken there is what the program speaks; for a browser that is HTTP.
    pub url: String,
}

/// For how long.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PortQuery {
    /// How long `signed_url` lets somebody in, in seconds: 1 to 604800; 3600 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}
