//! One request and its answer, sent again where that is right.

use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use skerry_api::ErrorBody;
use skerry_types::Error;

use crate::client::Client;
use crate::error::{ClientError, Result};
use crate::retry::{ATTEMPTS, Repeat, backoff, pause_after, pause_meanwhile};

/// More of an error's body than this is no error of ours.
const MAX_ERROR_BYTES: usize = 64 * 1024;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Client {
    /// The URL of a route. Each segment is escaped.
    pub(crate) fn route(&self, segments: &[&str]) -> Url {
        let mut url = self.base().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        url
    }

    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.http().request(method, self.route(segments))
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &impl Serialize,
    ) -> Result<T> {
        let request = self.request(Method::GET, segments).query(query);
        self.answer(request, Repeat::Safe).await
    }

    /// A mutation that the server does once for each key.
    pub(crate) async fn post_once<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        let key = format!("{:032x}", rand::random::<u128>());
        let request = self.request(Method::POST, segments);
        let request = request.header(IDEMPOTENCY_KEY, key).json(body);
        self.answer(request, Repeat::Safe).await
    }

    /// A mutation; `repeat` says whether doing it twice matters.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        repeat: Repeat,
    ) -> Result<T> {
        let request = self.request(Method::POST, segments).json(body);
        self.answer(request, repeat).await
    }

    /// A mutation that needs no body.
    pub(crate) async fn tell<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        repeat: Repeat,
    ) -> Result<T> {
        let request = self.request(Method::POST, segments);
        self.answer(request, repeat).await
    }

    /// Sends and reads the answer as JSON.
    pub(crate) async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        repeat: Repeat,
    ) -> Result<T> {
        let response = self.send(request, repeat).await?;
        let bytes = response.bytes().await.map_err(broken)?;
        // A route without an answer has an empty body, which is `()`.
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(ClientError::Unreadable)
    }

    /// Sends until it is answered with a success, or trying again makes no sense.
    pub(crate) async fn send(&self, request: RequestBuilder, repeat: Repeat) -> Result<Response> {
        let mut request = request.build().map_err(ClientError::Request)?;
        let mut attempt = 0;
        let mut broke = false;
        loop {
            let again = request.try_clone();
            let outcome = self.http().execute(request).await;
            let pause = match &outcome {
                // What was asked before the break is still being done, and may take as long as it takes.
                Ok(response) if broke && response.status() == StatusCode::CONFLICT => {
                    attempt = 0;
                    pause_meanwhile(response)
                }
                Ok(response) => pause_after(response, attempt),
                Err(error) if error.is_connect() => None,
                Err(_) => {
                    broke = true;
                    (repeat == Repeat::Safe).then(|| backoff(attempt))
                }
            };
            let again = again.filter(|_| attempt + 1 < ATTEMPTS);
            let (Some(next), Some(pause)) = (again, pause) else {
                return self.success(outcome).await;
            };
            tokio::time::sleep(pause).await;
            request = next;
            attempt += 1;
        }
    }

    /// Sends once.
    pub(crate) async fn send_once(&self, request: Request) -> Result<Response> {
        let outcome = self.http().execute(request).await;
        self.success(outcome).await
    }

    async fn success(&self, outcome: reqwest::Result<Response>) -> Result<Response> {
        match outcome {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) if response.status().as_u16() == 101 => Ok(response),
            Ok(response) => Err(refusal(response).await),
            Err(error) if error.is_connect() => Err(ClientError::Unreachable {
                url: self.base().to_string(),
                source: error.without_url(),
            }),
            Err(error) => Err(broken(error)),
        }
    }
}

pub(crate) fn broken(error: reqwest::Error) -> ClientError {
    ClientError::Broken(error.without_url())
}

async fn refusal(mut response: Response) -> ClientError {
    let status = response.status().as_u16();
    let mut text = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if text.len() + chunk.len() <= MAX_ERROR_BYTES => {
                text.extend_from_slice(&chunk);
            }
            Ok(None) => break,
            _ => return ClientError::Strange { status },
        }
    }
    match serde_json::from_slice::<ErrorBody>(&text) {
        Ok(body) => ClientError::Refused {
            request_id: Some(body.request_id),
            error: Box::new(Error {
                code: body.code,
                message: body.message,
                hint: body.hint,
                retry_after: body.retry_after,
            }),
        },
        Err(_) => ClientError::Strange { status },
    }
}
