//! The one error envelope.

use serde::{Deserialize, Serialize};
use skerry_types::ErrorCode;
use utoipa::ToSchema;

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The same as `code`, for clients that look here.
    #[schema(schema_with = crate::schema::error_code)]
    pub error: ErrorCode,
    /// The stable code.
    #[schema(schema_with = crate::schema::error_code)]
    pub code: ErrorCode,
    /// What happened, for a person.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request, as in the header `X-Request-Id` and in the server's log.
    pub request_id: String,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u64>,
}
