//! `Idempotency-Key`: a mutation that creates is done once, however often it is asked for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use skerry_control::{Attempt, Caller, Reply};
use skerry_types::{Error, ErrorCode};

use crate::App;
use crate::error::{Answer, Failure};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_KEY_BYTES: usize = 255;

/// What makes a mutation this mutation: the key, if the client sent one, the method and the path.
#[derive(Debug)]
pub struct Once {
    key: Option<String>,
    request: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Once {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let key = parts.headers.get(IDEMPOTENCY_KEY).map(valid).transpose()?;
        Ok(Self {
            key: key.map(str::to_owned),
            request: format!("{} {}\n", parts.method, parts.uri),
        })
    }
}

fn valid(key: &HeaderValue) -> Result<&str, Failure> {
    key.to_str()
        .ok()
        .filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()))
        .ok_or_else(|| {
            let message = format!("Idempotency-Key: must be 1 to {MAX_KEY_BYTES} plain characters");
            Failure::new(ErrorCode::ValidationError, message)
        })
}

impl Once {
    /// Does `work`, or gives the answer that it had before. `body` is the request's body, which belongs to its identity.
    pub async fn run<T, W>(
        mut self,
        app: &App,
        caller: &Caller,
        body: &impl Serialize,
        work: W,
    ) -> Answer<Response>
    where
        T: Serialize + 'static,
        W: FnOnce(Attempt) -> BoxFuture<'static, Answer<(StatusCode, T)>>,
    {
        let Some(key) = self.key.take() else {
            let (status, value) = work(Attempt::first()).await?;
            return Ok((status, axum::Json(value)).into_response());
        };
        let body = serde_json::to_string(body).map_err(|error| Error::internal(&error))?;
        self.request.push_str(&body);
        let reply = app
            .control
            .once(caller, &key, self.request.as_bytes(), |attempt| {
                work(attempt).map(reply)
            })
            .await?;
        answer(reply)
    }
}

fn reply<T: Serialize>(outcome: Answer<(StatusCode, T)>) -> Reply {
    let written = outcome.and_then(|(status, value)| {
        let body = serde_json::to_string(&value).map_err(|error| Error::internal(&error))?;
        Ok((status.as_u16(), body))
    });
    let (status, body) = written.unwrap_or_else(|Failure(error)| {
        let body = serde_json::to_string(&error).unwrap_or_default();
        (error.code.status(), body)
    });
    Reply {
        status,
        body,
        replayed: false,
    }
}

fn answer(reply: Reply) -> Answer<Response> {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !status.is_success() {
        let error: Error = serde_json::from_str(&reply.body).map_err(|e| Error::internal(&e))?;
        return Err(error.into());
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (status, json, reply.body).into_response();
    if reply.replayed {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, yes);
    }
    Ok(response)
}
