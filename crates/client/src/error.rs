//! What can go wrong between a caller and a server.

use skerry_types::ErrorCode;

/// Short for a result with [`ClientError`].
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL of the server is none.
    #[error("`{url}` is not the URL of a server: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key has characters that no header can carry.
    #[error("the key has characters that cannot be sent")]
    Key,
    /// HTTP could not be set up on this machine.
    #[error("cannot set up HTTP")]
    Setup(#[source] reqwest::Error),
    /// Nothing answers there.
    #[error("cannot reach {url}")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke. Whether the server did what was asked is not known.
    #[error("the connection to the server broke")]
    Broken(#[source] reqwest::Error),
    /// The server said no.
    #[error("{error}")]
    Refused {
        /// Code, message and hint. (Boxed: it is large, and errors are rare.)
        error: Box<skerry_types::Error>,
        /// The request, as in the server's log.
        request_id: Option<String>,
    },
    /// Something answers there, but no Skerry server that we understand.
    #[error("the answer ({status}) is not one of a Skerry server")]
    Strange {
        /// The HTTP status.
        status: u16,
    },
    /// An answer or an event has a shape that we do not know.
    #[error("an answer of the server cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// A frame of a stream is larger than any that a server sends.
    #[error("an event of the stream is too large")]
    TooLarge,
    /// A stream ended before its last event, and could not be resumed.
    #[error("the stream ended before its last event")]
    CutOff,
    /// A terminal's connection broke, and could not be resumed.
    #[error("the connection to the terminal broke")]
    Terminal(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// A request could not be built.
    #[error("the request cannot be built")]
    Request(#[source] reqwest::Error),
}

impl ClientError {
    /// The server's code, if it is the server that said no.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { error, .. } => Some(error.code),
            _ => None,
        }
    }

    /// What to do about it, where the server knows.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => error.hint.as_deref(),
            _ => None,
        }
    }

    /// The request, as in the server's log.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// It may work a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken(_) | Self::CutOff | Self::Terminal(_) => true,
            Self::Refused { error, .. } => matches!(
                error.code,
                ErrorCode::ServiceUnavailable | ErrorCode::NodeUnreachable | ErrorCode::RateLimited
            ),
            _ => false,
        }
    }
}
