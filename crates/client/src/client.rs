//! The server as a whole.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;
use skerry_api::{CreateSandbox, Map, Readiness, Sandbox as Record, SandboxPage};
use skerry_types::SandboxId;

use crate::error::{ClientError, Result};
use crate::retry::Repeat;
use crate::sandbox::Sandbox;
use crate::send::broken;

/// A server on a network that answers at all does so within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the longest that a server makes anyone wait for an answer (300 s).
const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// A server. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

/// Which sandboxes to list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListSandboxes {
    /// Only in these states, with commas between them; deleted ones only when named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only of this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Only forks of this sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<SandboxId>,
    /// Only with this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only of this project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only with all of these notes.
    #[serde(skip)]
    pub metadata: Map,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most this many, 1 to 200; 50 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl Client {
    /// A client of the server at `url` (`http://127.0.0.1:7300`). Nothing is sent yet.
    pub fn new(url: &str, key: &str) -> Result<Self> {
        let base = parse(url)?;
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ClientError::Key)?;
        bearer.set_sensitive(true);
        let mut http = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .user_agent(concat!("skerry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .tcp_nodelay(true)
            // Terminals upgrade their connection, which HTTP/2 cannot.
            .http1_only()
            // A key must not follow wherever an answer points.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(ClientError::Setup)?;
        Ok(Self { http, base })
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Whether the server takes new work, and what stands in the way. Needs no key.
    pub async fn ready(&self) -> Result<Readiness> {
        let mut url = self.base.clone();
        url.set_path("/readyz");
        let response = self.http.get(url).send().await;
        let response = response.map_err(|source| ClientError::Unreachable {
            url: self.base.to_string(),
            source: source.without_url(),
        })?;
        let status = response.status().as_u16();
        response
            .json()
            .await
            .map_err(|_| ClientError::Strange { status })
    }

    /// The certificate of the server's own CA, in PEM. Needs no key.
    pub async fn ca(&self) -> Result<String> {
        let mut url = self.base.clone();
        url.set_path("/ca.pem");
        let answer = self.send(self.http.get(url), Repeat::Safe).await?;
        answer.text().await.map_err(broken)
    }

    /// Makes a sandbox. Answers when it runs, or after 30 s, or at once when it is queued: look at `status`.
    pub async fn create(&self, request: &CreateSandbox) -> Result<Record> {
        self.post_once(&["sandboxes"], request).await
    }

    /// A page of sandboxes, newest first.
    pub async fn list(&self, query: &ListSandboxes) -> Result<SandboxPage> {
        let notes = query.metadata.iter();
        let notes: Vec<_> = notes
            .map(|(k, v)| ("metadata", format!("{k}={v}")))
            .collect();
        let request = self.request(Method::GET, &["sandboxes"]).query(query);
        self.answer(request.query(&notes), Repeat::Safe).await
    }

    /// All pages of a list.
    pub async fn list_all(&self, mut query: ListSandboxes) -> Result<Vec<Record>> {
        query.limit = query.limit.or(Some(skerry_types::limits::MAX_PAGE));
        let mut all = Vec::new();
        loop {
            let page = self.list(&query).await?;
            all.extend(page.sandboxes);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// One sandbox to work with. Nothing is sent yet.
    pub fn sandbox(&self, id: SandboxId) -> Sandbox {
        Sandbox::new(self.clone(), id)
    }

    pub(crate) async fn delete<T: serde::de::DeserializeOwned>(
        &self,
        segments: &[&str],
    ) -> Result<T> {
        let request = self.request(Method::DELETE, segments);
        self.answer(request, Repeat::Safe).await
    }
}

fn parse(url: &str) -> Result<Url> {
    let wrong = |reason: &dyn std::fmt::Display| ClientError::Url {
        url: url.to_owned(),
        reason: reason.to_string(),
    };
    let parsed = Url::parse(url).map_err(|error| wrong(&error))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(wrong(&"it must start with http:// or https://"));
    }
    Ok(parsed)
}

/// A proxy would look for the server on its own machine.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback())
}
