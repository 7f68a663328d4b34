//! Requests to one registry: nowhere that is closed, never more than is wanted, with a login where it asks for one.

use std::time::Duration;

use oci_spec::distribution::Reference;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, HeaderName, HeaderValue, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::Auth;
use super::login::{Answer, Challenge, challenge};
use crate::error::{ImageError, Result};
use crate::manifest::{MAX_DOCUMENT_BYTES, parse};
use crate::reach::{Reach, Refused, place};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No byte for this long ends a transfer.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);
/// No more of an answer is read for what a registry says of a failure, nor shown.
const MAX_SAID_BYTES: u64 = 16 * 1024;
const MAX_SHOWN_CHARS: usize = 200;
const MANIFEST_TYPES: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json",
);

/// One who asks a registry for one repository.
pub(super) struct Client {
    http: reqwest::Client,
    reach: Reach,
    registry: String,
    /// Where the registry's API begins.
    root: Url,
    repository: String,
    auth: Auth,
    /// What requests carry: what `auth` was exchanged for.
    login: Mutex<Auth>,
}

impl Client {
    pub(super) fn new(reach: Reach, image: &Reference, auth: Auth) -> Result<Self> {
        let registry = image.resolve_registry().to_owned();
        let bad = || crate::reference::bad_reference(&image.whole(), "no registry has that name");
        let root = reach.root(&registry).ok_or_else(bad)?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("skerry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .referer(false)
            .redirect(reach.redirects())
            .dns_resolver(reach.clone())
            .build()
            .map_err(|error| unreachable(&registry, &error))?;
        Ok(Self {
            http,
            reach,
            registry,
            root,
            repository: image.repository().to_owned(),
            auth,
            login: Mutex::new(Auth::Anonymous),
        })
    }

    /// A manifest or index, by tag or digest.
    pub(super) async fn manifest(&self, what: &str, name: &str) -> Result<Vec<u8>> {
        let answer = self
            .get(what, &format!("manifests/{name}"), ACCEPT, MANIFEST_TYPES)
            .await?;
        self.read(what, answer, MAX_DOCUMENT_BYTES).await
    }

    /// A blob from byte `from` on; the answer's status says if it begins anew nevertheless.
    pub(super) async fn blob(&self, what: &str, digest: &str, from: u64) -> Result<Response> {
        let range = HeaderValue::try_from(format!("bytes={from}-"));
        let (name, value) = match range {
            Ok(range) if from > 0 => (RANGE, range),
            _ => (ACCEPT, HeaderValue::from_static("*/*")),
        };
        self.get(what, &format!("blobs/{digest}"), name, value)
            .await
    }

    /// The next bytes of an answer; `None` at its end.
    pub(super) async fn chunk(&self, answer: &mut Response) -> Result<Option<bytes::Bytes>> {
        let chunk = answer.chunk().await;
        chunk.map_err(|error| unreachable(&self.registry, &error))
    }

    /// Finds out what requests must carry. Tokens live for minutes, so that a long pull does it again.
    pub(super) async fn log_in(&self, what: &str) -> Result<()> {
        let login = match &self.auth {
            Auth::Token(_) => self.auth.clone(),
            Auth::Anonymous | Auth::Basic { .. } => {
                let asked = self
                    .send(what, self.http.get(self.root.clone()), &self.root)
                    .await?;
                match challenge(asked.headers()) {
                    None => Auth::Anonymous,
                    Some(Challenge::Basic) => self.auth.clone(),
                    Some(Challenge::Bearer { realm, service }) => {
                        self.token(what, &realm, service).await?
                    }
                }
            }
        };
        *self.login.lock() = login;
        Ok(())
    }

    async fn token(&self, what: &str, realm: &str, service: Option<String>) -> Result<Auth> {
        let place =
            Url::parse(realm).map_err(|_| self.failed(what, "it names no place for tokens"))?;
        let scope = format!("repository:{}:pull", self.repository);
        let service = service.map(|service| ("service", service));
        let query: Vec<_> = service.into_iter().chain([("scope", scope)]).collect();
        let request = with(self.http.get(place.clone()).query(&query), &self.auth);
        let answer = self.send(what, request, &place).await?;
        let answer = self.judged(what, answer).await?;
        let answer = self.read(what, answer, MAX_DOCUMENT_BYTES).await?;
        let token = parse::<Answer>(&format!("the token for {what}"), &answer)?.token();
        token
            .map(Auth::Token)
            .ok_or_else(|| self.failed(what, "it gave no token"))
    }

    /// Something of the repository, asked for again with a new login where the old one does not count any more.
    async fn get(
        &self,
        what: &str,
        path: &str,
        name: HeaderName,
        value: HeaderValue,
    ) -> Result<Response> {
        let url = self.root.join(&format!("{}/{path}", self.repository));
        let url = url.map_err(|_| self.failed(what, "its name makes no address"))?;
        let ask = || async {
            let login = self.login.lock().clone();
            let request = self.http.get(url.clone()).header(&name, &value);
            self.send(what, with(request, &login), &url).await
        };
        let mut answer = ask().await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.log_in(what).await?;
            answer = ask().await?;
        }
        self.judged(what, answer).await
    }

    async fn send(&self, what: &str, request: RequestBuilder, to: &Url) -> Result<Response> {
        let closed = |at: &Url, refused: &Refused| ImageError::Closed {
            what: what.to_owned(),
            host: refused.host.clone().unwrap_or_else(|| place(at)),
            reason: refused.reason.clone(),
        };
        self.reach
            .check(to)
            .map_err(|refused| closed(to, &refused))?;
        let sent = request.send().await;
        sent.map_err(|error| match find::<Refused>(&error) {
            Some(refused) => closed(error.url().unwrap_or(to), refused),
            None => unreachable(&self.registry, &error),
        })
    }

    /// The answer if it is what was asked for, and otherwise what is wrong, in our words where it is one of the usual things.
    async fn judged(&self, what: &str, answer: Response) -> Result<Response> {
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ImageError::Login {
                registry: self.registry.clone(),
                what: what.to_owned(),
            }),
            StatusCode::NOT_FOUND => Err(ImageError::Missing {
                what: what.to_owned(),
            }),
            status => {
                let said = self.read(what, answer, MAX_SAID_BYTES).await;
                let said = said.ok().and_then(|bytes| message(&bytes));
                let said = said.map(|text| format!(": {text}")).unwrap_or_default();
                Err(self.failed(what, &format!("it answered {status}{said}")))
            }
        }
    }

    /// All of an answer that is no longer than that.
    async fn read(&self, what: &str, mut answer: Response, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut answer).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > most {
                return Err(ImageError::malformed(what, "it is too large"));
            }
        }
        Ok(bytes)
    }

    fn failed(&self, what: &str, reason: &str) -> ImageError {
        ImageError::Registry {
            registry: self.registry.clone(),
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

fn with(request: RequestBuilder, login: &Auth) -> RequestBuilder {
    match login {
        Auth::Anonymous => request,
        Auth::Basic { user, password } => request.basic_auth(user, Some(password)),
        Auth::Token(token) => request.bearer_auth(token),
    }
}

/// The first error in an answer, as registries write them.
fn message(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        errors: Vec<Fault>,
    }
    #[derive(Deserialize)]
    struct Fault {
        message: String,
    }
    let said: Said = serde_json::from_slice(bytes).ok()?;
    let text = said.errors.into_iter().next()?.message;
    let printable = text.chars().filter(|c| !c.is_control());
    Some(printable.take(MAX_SHOWN_CHARS).collect())
}

/// What a library says of a request is long; its last cause tells a person most.
fn unreachable(registry: &str, error: &reqwest::Error) -> ImageError {
    let last = causes(error).last().map(ToString::to_string);
    ImageError::Unreachable {
        registry: registry.to_owned(),
        reason: last.unwrap_or_default(),
    }
}

fn find<T: std::error::Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
}
