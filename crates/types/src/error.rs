//! The one error that crosses a boundary: a stable code, a message for a person, and a hint what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Short for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($(#[doc = $meaning:literal] $name:ident = $text:literal, $status:literal;)*) => {
        /// A stable code; the same in a REST body, a CLI message and `docs/errors.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $(#[doc = $meaning] $name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it says, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning.trim_ascii(),)*
                }
            }

            /// The HTTP status that carries it.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }
        }
    };
}

codes! {
    /// A field has a value that cannot be.
    ValidationError = "validation_error", 400;
    /// The request itself cannot be read.
    BadRequest = "bad_request", 400;
    /// No key, or one that does not count.
    Unauthorized = "unauthorized", 401;
    /// The key counts, but not for this.
    Forbidden = "forbidden", 403;
    /// There is no such thing, or it is not yours.
    NotFound = "not_found", 404;
    /// The path exists, but not with this method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// It took too long to send the request.
    RequestTimeout = "request_timeout", 408;
    /// It does not fit what is there now.
    Conflict = "conflict", 409;
    /// The sandbox does not run.
    SandboxNotRunning = "sandbox_not_running", 409;
    /// It was there, and is gone for good.
    Gone = "gone", 410;
    /// The body is larger than allowed.
    TooLarge = "too_large", 413;
    /// The body is of a type that the route does not take.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// The host name in the request is not one this server answers to.
    MisdirectedRequest = "misdirected_request", 421;
    /// The chain of forks is as deep as it may be.
    ForkDepthExceeded = "fork_depth_exceeded", 422;
    /// The sandbox has as many forks as it may have.
    ForkLimitExceeded = "fork_limit_exceeded", 422;
    /// This driver, image or machine cannot do it.
    Unsupported = "unsupported", 422;
    /// Too many requests.
    RateLimited = "rate_limited", 429;
    /// The org has all it may have.
    QuotaExceeded = "quota_exceeded", 429;
    /// A fault of ours.
    InternalError = "internal_error", 500;
    /// The node cannot be reached.
    NodeUnreachable = "node_unreachable", 502;
    /// Nothing in the sandbox listens on that port.
    PortClosed = "port_closed", 502;
    /// No node has room.
    NoCapacity = "no_capacity", 503;
    /// Not now: starting or draining.
    ServiceUnavailable = "service_unavailable", 503;
    /// The machine's disk, or the sandbox's, is full.
    DiskFull = "disk_full", 507;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a caller is told when something did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, for a person.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Seconds after which trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Error {
    /// An error with this code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            retry_after: None,
        }
    }

    /// The same with a hint what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a time to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// A field that cannot have this value.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ValidationError, message)
    }

    /// No such thing, as far as this caller may know.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("{what} was not found"))
    }

    /// It does not fit what is there now.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    /// This driver, image or machine cannot do it.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message)
    }

    /// A fault of ours. The message is shown, so it names no secret.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(ErrorCode::InternalError, message.to_string())
    }
}

impl From<crate::id::ParseIdError> for Error {
    /// An id that cannot be read names nothing: not found, with the reason.
    fn from(error: crate::id::ParseIdError) -> Self {
        Self::new(ErrorCode::NotFound, error.to_string())
    }
}

impl From<crate::state::IllegalTransition> for Error {
    fn from(error: crate::state::IllegalTransition) -> Self {
        Self::new(ErrorCode::Conflict, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_code_is_its_serde_name() {
        for code in ErrorCode::ALL {
            assert_eq!(
                serde_json::to_value(code).unwrap(),
                serde_json::json!(code.as_str())
            );
            assert!((400..600).contains(&code.status()));
        }
    }
}
