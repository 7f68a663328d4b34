//! Pages of any site may ask: what they need is a key or a token, and no browser adds those by itself.

use axum::http::HeaderName;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// `exposed` is what pages may read of an answer's head, beside what they always may.
pub(crate) fn cors<const N: usize>(exposed: [HeaderName; N]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        // A star would not stand for `Authorization`, with which clients name a user.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed)
}
