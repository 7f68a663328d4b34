//! Parts of a request as types. Each says which field it could not read.

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::{HeaderName, header, request::Parts};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skerry_types::{Error, ErrorCode, limits};

use crate::App;
use crate::error::Failure;

/// A JSON body, in or out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T>
where
    App: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        require_json(&request)?;
        parse(&whole_body(request, &App::from_ref(state)).await?).map(Self)
    }
}

/// No body at all is fine where every field may be left out.
impl<T: DeserializeOwned, S: Sync> OptionalFromRequest<S> for Json<T>
where
    App: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Failure> {
        let is_json = require_json(&request);
        let body = whole_body(request, &App::from_ref(state)).await?;
        if body.is_empty() {
            return Ok(None);
        }
        is_json?;
        parse(&body).map(|value| Some(Self(value)))
    }
}

/// Only this type makes a browser ask before it sends the request from another site.
fn require_json(request: &Request) -> Result<(), Failure> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let essence = kind
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let error = Error::new(ErrorCode::UnsupportedMediaType, "the body must be JSON");
    Err(error
        .with_hint("send `Content-Type: application/json`")
        .into())
}

async fn whole_body(request: Request, app: &App) -> Result<Bytes, Failure> {
    let body: Body = request.into_body();
    let read = axum::body::to_bytes(body, limits::MAX_JSON_BYTES);
    match tokio::time::timeout(app.settings.patience, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(broken_body(&error)),
        Err(_) => Err(Failure::new(
            ErrorCode::RequestTimeout,
            "the body did not come in time",
        )),
    }
}

fn broken_body(error: &axum::Error) -> Failure {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<axum::extract::rejection::LengthLimitError>()
            || error.to_string().contains("length limit")
        {
            let most = limits::MAX_JSON_BYTES;
            let message = format!("the body is larger than {most} bytes");
            return Failure::new(ErrorCode::TooLarge, message);
        }
        cause = error.source();
    }
    Failure::new(ErrorCode::BadRequest, "the body broke off")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // A list would fill the fields in their order, which no client can mean.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::validation("the body must be a JSON object").into());
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let code = if error.inner().is_data() {
            ErrorCode::ValidationError
        } else {
            ErrorCode::BadRequest
        };
        let why = unquoted(error.inner().to_string());
        Failure::new(code, at_field(&error.path().to_string(), &why))
    })?;
    reader
        .end()
        .map_err(|error| Failure::new(ErrorCode::BadRequest, error.to_string()))?;
    Ok(value)
}

/// What a value of the wrong type was is left out: it may be a secret that stands in the wrong place.
fn unquoted(said: String) -> String {
    let wrong = said.strip_prefix("invalid type: ");
    let Some((found, expected)) = wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) else {
        return said;
    };
    let kind = found.split([' ', '"', '`']).next().unwrap_or(found);
    format!("invalid type: {kind}, expected {expected}")
}

fn at_field(path: &str, error: &dyn std::fmt::Display) -> String {
    if path == "." {
        error.to_string()
    } else {
        format!("{path}: {error}")
    }
}

/// The query of the URL.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_html_form::Deserializer::new(form(query));
        serde_path_to_error::deserialize(pairs)
            .map(Self)
            .map_err(|error| {
                let why = match error.inner().to_string() {
                    // What the library says of anything that is not a number.
                    said if said.contains("invalid digit") => "must be a whole number".to_owned(),
                    said => said,
                };
                let message = at_field(&error.path().to_string(), &why);
                Failure::new(ErrorCode::ValidationError, message)
            })
    }
}

fn form(query: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(query.as_bytes())
}

/// Parts of the path. One that cannot be read names nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|rejection| {
                let text = rejection.body_text();
                let why = text.strip_prefix("Invalid URL: ").unwrap_or(&text);
                Failure::new(ErrorCode::NotFound, why)
            })
    }
}

/// The last event that a reader has: `Last-Event-ID` of a reader that came back, else `?after=` of the URL it came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct After(pub(crate) u64);

#[derive(Deserialize)]
struct AfterQuery {
    #[serde(default)]
    after: u64,
}

impl<S: Send + Sync> FromRequestParts<S> for After {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
        if let Some(seen) = parts.headers.get(LAST_EVENT_ID) {
            let seq = seen.to_str().ok().and_then(|text| text.trim().parse().ok());
            return seq.map(Self).ok_or_else(|| {
                Failure::new(
                    ErrorCode::ValidationError,
                    "Last-Event-ID: must be a number",
                )
            });
        }
        let Query(query) = Query::<AfterQuery>::from_request_parts(parts, state).await?;
        Ok(Self(query.after))
    }
}
