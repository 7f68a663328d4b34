//! Stateful shells.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::SessionId;
use utoipa::ToSchema;

use crate::Map;

/// Opens a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenSession {
    /// The shell's path; bash where there is one, else sh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Goes over the sandbox's environment.
    pub env: Map,
    /// Where it starts; the user's home unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// As whom; the image's user unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Runs a script in a session; one at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunInSession {
    /// A script for the session's shell.
    pub cmd: String,
    /// 1 to 3600; 300 unless given. A script that takes longer is ended, and the session with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Answer when it ended (`true`, the default) or at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// Input for what runs in a session: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionInput {
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Any bytes, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Which.
    #[schema(schema_with = crate::schema::session_id)]
    pub session_id: SessionId,
    /// `running` or `destroyed`.
    pub status: String,
    /// The shell, as asked.
    pub shell: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it ended.
    pub destroyed_at: Option<Timestamp>,
}

/// All sessions of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    /// The sessions, the ended ones too.
    pub sessions: Vec<Session>,
}
