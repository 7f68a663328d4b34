//! The OpenAPI document, its pages, the text for agents, and the page for whoever opens the address.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use skerry_types::ErrorCode;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_swagger_ui::SwaggerUi;

use crate::App;
use crate::error::Failure;

/// What holds for every operation and has no place of its own in the document.
const ABOUT: &str = "Isolated Linux computers for software agents.

Every answer that is no success has the body `ErrorBody`. The only exceptions are what cannot be read as an HTTP request (400) and heads of \
more than 64 KiB or 64 headers (431): those have no body. HTTP/1.1 is spoken, and HTTP/2 with clients that begin with it.

Where the organisation has limits, each answer says how many requests of its kind (creates, execs, others) it may make in a minute, \
how many are left, and the Unix time at which they are counted anew: `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset`.";

const LLMS: &str = include_str!("llms.txt");

const HOME: &str = include_str!("home.html");
/// Nothing but the page itself and its own style, by its digest.
const HOME_POLICY: &str = "default-src 'none'; style-src 'sha256-Hz3esJY0leg5XpjGNuC/cRb2yMtzX3VYT4BnKWNFei4='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the document starts with.
pub(crate) fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Skerry")
        .version("1")
        .description(Some(ABOUT))
        .build();
    OpenApiBuilder::new().info(info).build()
}

/// Adds what holds for every operation: the error envelope, and the key unless it is open to all.
pub(crate) fn finish(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    components.schemas.insert(
        skerry_api::ErrorBody::name().into_owned(),
        skerry_api::ErrorBody::schema(),
    );
    components.schemas.insert(
        skerry_api::ClientMessage::name().into_owned(),
        skerry_api::ClientMessage::schema(),
    );
    let mut nested = Vec::new();
    skerry_api::ClientMessage::schemas(&mut nested);
    components.schemas.extend(nested);
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
    );
    components.add_security_scheme(
        "key",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))),
    );
    let failure = ResponseBuilder::new()
        .description("It did not work, and why.")
        .content(
            "application/json",
            ContentBuilder::new()
                .schema(Some(RefOr::Ref(Ref::from_schema_name("ErrorBody"))))
                .build(),
        )
        .build();
    for (path, item) in &mut document.paths.paths {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.insert("default".into(), RefOr::T(failure.clone()));
            if path.starts_with("/v1/") {
                let need = |name| SecurityRequirement::new::<_, [&str; 0], &str>(name, []);
                operation.security = Some(vec![need("bearer"), need("key")]);
            }
        }
    }
    document
}

/// `/`, `/openapi.json`, `/docs` with everything it loads, `/llms.txt`, `/ca.pem`.
pub(crate) fn pages(document: OpenApi) -> Router<App> {
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    let home = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, HOME_POLICY),
    ];
    Router::new()
        .route("/", get(async move || (home, HOME).into_response()))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .route("/llms.txt", get(async move || (text, LLMS).into_response()))
        .route("/ca.pem", get(ca))
}

/// Every handshake shows what it signed, so the CA is no secret; whether to trust it is for the client to find out.
async fn ca(State(app): State<App>) -> Response {
    let pem = [(header::CONTENT_TYPE, "application/x-pem-file")];
    match &app.settings.ca {
        Some(ca) => (pem, ca.clone()).into_response(),
        None => {
            Failure::new(ErrorCode::NotFound, "this server has no CA of its own").into_response()
        }
    }
}
