//! The API without any help: one request, one answer or none, no second try.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

/// A busy machine; a server that does not answer within this hangs.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Where to send requests, and with what key.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// A mutation under an idempotency key.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) once: String,
}

impl Call {
    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self {
            method: Method::POST,
            path: path.into(),
            body,
            once: format!("{:032x}", rand::random::<u128>()),
        }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self {
            method: Method::DELETE,
            ..Self::post(path, Value::Null)
        }
    }
}

/// Status and body.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A text field of it.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

impl Api {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// `None`: the connection broke before the answer was whole.
    pub(crate) async fn call(&self, call: &Call) -> Option<Answer> {
        let mut request = self.http.request(call.method.clone(), self.at(&call.path));
        request = request
            .bearer_auth(&self.key)
            .timeout(TIMEOUT)
            .header("idempotency-key", &call.once);
        if !call.body.is_null() {
            request = request.json(&call.body);
        }
        answer(request.send().await.ok()?).await
    }

    /// The same, if there is an answer within `limit`.
    pub(crate) async fn call_within(&self, limit: Duration, call: &Call) -> Option<Answer> {
        tokio::time::timeout(limit, self.call(call)).await.ok()?
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self
            .http
            .get(self.at(path))
            .bearer_auth(&self.key)
            .timeout(TIMEOUT);
        answer(request.send().await.unwrap()).await.unwrap()
    }

    /// An open stream of events after this number; `None`: the connection broke.
    pub(crate) async fn stream(&self, path: &str, after: u64) -> Option<Response> {
        let request = self
            .http
            .get(self.at(path))
            .bearer_auth(&self.key)
            .header("last-event-id", after);
        let response = request.send().await.ok()?;
        assert_eq!(response.status(), 200, "{path}");
        Some(response)
    }

    /// The request of a WebSocket.
    pub(crate) fn socket(&self, path: &str) -> tokio_tungstenite::tungstenite::http::Request<()> {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;
        let url = self.at(path).replacen("http", "ws", 1);
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", self.key).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        request
    }

    fn at(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.url)
    }
}

async fn answer(response: Response) -> Option<Answer> {
    let status = response.status().as_u16();
    let text = response.bytes().await.ok()?;
    let body =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{status} {text:?}: {error}"));
    Some(Answer { status, body })
}
