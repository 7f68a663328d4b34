//! The record of a sandbox.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// When.
    pub ts: Timestamp,
    /// Its type: `sandbox.created`, `exec.output` …
    #[serde(rename = "type")]
    pub kind: String,
    /// What belongs to that type.
    pub data: serde_json::Value,
}

/// A page of events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// Where the next page starts; `null`: this was the last for now.
    pub next_cursor: Option<String>,
}
