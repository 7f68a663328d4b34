//! Everything behind the listener: the front, control with SQLite, and a node over a simulated machine.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Request, StatusCode, request};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skerry_api::{Image, PullEvent, PullImage};
use skerry_control::{Control, ImageCatalogue, Member, NodeFacts, Nodes, Offer};
use skerry_driver::DriverError;
use skerry_driver_sim::{SimDriver, World as Machine};
use skerry_e2b::frame;
use skerry_http::{App, ImageService, Settings};
use skerry_image::{Images, Progress};
use skerry_node::{Gate, Node, Options, ReadyLimits};
use skerry_proto::node::ByteStream;
use skerry_storage::{Storage, Tier};
use skerry_store::{LOCAL_NODE, Location, NewKey, Org, Quotas, Store, System, Tenant};
use skerry_types::{Egress, Error, KeyId, OrgId, Result, SandboxId};
use tempfile::TempDir;
use tower::ServiceExt;

pub(crate) struct World {
    pub(crate) front: Router,
    pub(crate) key: String,
    /// Of another org.
    pub(crate) other: String,
    /// Of that org too, and may only look at its sandboxes.
    pub(crate) viewer: String,
    _folder: TempDir,
}

/// A sandbox, as a client knows it.
#[derive(Clone)]
pub(crate) struct Island {
    front: Router,
    pub(crate) id: String,
    pub(crate) token: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: {:?} is not JSON", self.status, self.body))
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Sqlite(folder.path().join("db"))).await;
        let store = store.unwrap();
        let (other, viewer) = other_keys(&store).await;
        let member = Member {
            facts: NodeFacts {
                id: LOCAL_NODE,
                name: "sim".into(),
                region: "local".into(),
                slots: 100,
                offers: vec![Offer {
                    driver: "sim".into(),
                    isolation: "none".into(),
                    volumes: true,
                }],
            },
            handle: node(&folder).await,
        };
        let nodes = Nodes::new(vec![member]);
        let settings = skerry_control::Settings {
            uploads: Some(folder.path().join("uploads")),
            default_network: "none".into(),
            ..skerry_control::Settings::default()
        };
        let control = Control::start(store, nodes, Arc::new(NoImages), settings).await;
        let control = control.unwrap();
        let key = control.ensure_local_key(&folder.path().join("key")).await;
        let app = App::new(control, Arc::new(NoImages), Settings::default());
        Self {
            front: skerry_e2b::front(app),
            key: key.unwrap(),
            other,
            viewer,
            _folder: folder,
        }
    }

    /// A request of a client that has the key.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask(Some(&self.key), method, path, body).await
    }

    /// A request of whoever has this key, or none; `null` is no body.
    pub(crate) async fn ask(
        &self,
        key: Option<&str>,
        method: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let mut request = request(method, path).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => body.to_string().into(),
        };
        send(&self.front, request.body(body).unwrap()).await
    }

    pub(crate) async fn sandbox(&self) -> Island {
        let made = self
            .api("POST", "/v2/sandboxes", json!({"templateID": "base"}))
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
        let made = made.json();
        Island {
            front: self.front.clone(),
            id: made["sandboxID"].as_str().unwrap().to_owned(),
            token: made["envdAccessToken"].as_str().unwrap().to_owned(),
        }
    }
}

pub(crate) fn request(method: &str, path: &str) -> request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
}

pub(crate) async fn send(front: &Router, request: Request<Body>) -> Answer {
    let response = front.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
    }
}

impl Island {
    /// A request that finds this sandbox and may use it.
    pub(crate) fn request(&self, method: &str, path: &str) -> request::Builder {
        request(method, path)
            .header("e2b-sandbox-id", &self.id)
            .header("e2b-sandbox-port", "49983")
            .header("x-access-token", &self.token)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.front, request).await
    }

    /// A unary call.
    pub(crate) async fn call(&self, method: &str, message: Value) -> Answer {
        let request = self.request("POST", &format!("/{method}"));
        let request = request.header("content-type", "application/json");
        self.send(request.body(message.to_string().into()).unwrap())
            .await
    }

    /// A call that is answered by a stream, with these headers beside.
    pub(crate) async fn open(
        &self,
        method: &str,
        message: &Value,
        headers: &[(&str, &str)],
    ) -> Events {
        let mut request = self.request("POST", &format!("/{method}"));
        request = request.header("content-type", "application/connect+json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .front
            .clone()
            .oneshot(request.body(enveloped(&[message])).unwrap());
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Events {
            body: response.into_body().into_data_stream(),
            buffer: BytesMut::new(),
        }
    }
}

/// Messages as the body of a request.
pub(crate) fn enveloped(messages: &[&Value]) -> Body {
    let mut out = BytesMut::new();
    for message in messages {
        frame::message(&mut out, |out| {
            out.extend_from_slice(message.to_string().as_bytes());
        });
    }
    Body::from(out.freeze())
}

/// What comes of a stream.
pub(crate) struct Events {
    body: BodyDataStream,
    buffer: BytesMut,
}

impl Events {
    /// The next envelope: its flags and message.
    pub(crate) async fn next(&mut self) -> Option<(u8, Value)> {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    let flags = self.buffer[0];
                    self.buffer.advance(5);
                    let message = self.buffer.split_to(length);
                    return Some((flags, serde_json::from_slice(&message).unwrap()));
                }
            }
            self.buffer
                .extend_from_slice(&self.body.next().await?.unwrap());
        }
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Value {
        match self.next().await {
            Some((0, event)) => event,
            other => panic!("{other:?} is not an event"),
        }
    }

    /// All that is left: events, and the end.
    pub(crate) async fn rest(mut self) -> (Vec<Value>, Value) {
        let mut events = Vec::new();
        while let Some((flags, message)) = self.next().await {
            if flags == 2 {
                assert!(self.next().await.is_none(), "nothing comes after the end");
                return (events, message);
            }
            events.push(message);
        }
        panic!("the stream broke off after {events:?}");
    }
}

/// Keys of an org of their own: one that counts for everything, and one for looking at sandboxes.
async fn other_keys(store: &Store) -> (String, String) {
    let org = Org {
        id: OrgId::new(),
        name: "other".into(),
        slug: "other".into(),
        created_at: Timestamp::now(),
    };
    let system = System::on_its_own_behalf();
    let made = store.create_org(&system, &org, Quotas::LOCAL).await;
    made.unwrap();
    let tenant = Tenant::of(org.id);
    (
        key(store, &tenant, "0", Vec::new()).await,
        key(store, &tenant, "1", vec!["sandbox:read".into()]).await,
    )
}

async fn key(store: &Store, tenant: &Tenant, digit: &str, scopes: Vec<String>) -> String {
    let secret = format!("sk_{}", digit.repeat(44));
    let key = NewKey {
        id: KeyId::new(),
        name: digit.into(),
        prefix: format!("sk_{digit}"),
        hash: Sha256::digest(&secret).into(),
        scopes,
        expires_at: None,
    };
    let made = store.create_key(tenant, key, Timestamp::now());
    made.await.unwrap();
    secret
}

async fn node(folder: &TempDir) -> Arc<Node> {
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("source/etc")).unwrap();
    std::fs::create_dir(path("images")).unwrap();
    std::fs::create_dir(path("node")).unwrap();
    std::fs::create_dir(path("storage")).unwrap();
    let plain = skerry_storage::Options {
        prefer: Some(Tier::Copy),
        ..skerry_storage::Options::default()
    };
    let images = Images::open(path("images")).unwrap();
    let source = path("source");
    let imported = images.import_folder(&source, "sim", Progress::none());
    imported.await.unwrap();
    let options = Options {
        data_dir: path("node"),
        drivers: vec![Arc::new(SimDriver::that_has_nat(Machine::new()))],
        images: Arc::new(images),
        storage: Some(Arc::new(Storage::open(&path("storage"), &plain).unwrap())),
        ready: ReadyLimits {
            each: 0,
            memory_mb: 0,
            prepared: 0,
        },
        gate: Some(Arc::new(OpenGate)),
        journal_bytes: None,
        publish: None,
    };
    Node::start(options).await.unwrap()
}

/// Nothing connects anywhere here.
#[derive(Debug)]
struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    async fn rule(&self, _: SandboxId, _: &Egress) -> Result<(), DriverError> {
        Ok(())
    }

    fn forget(&self, _: SandboxId) {}
}

/// Images are the node's own here.
struct NoImages;

#[async_trait]
impl ImageCatalogue for NoImages {
    async fn resolve(&self, reference: &str) -> Result<Option<String>> {
        Ok(matches!(reference, "base" | "sim").then(|| "sim".to_owned()))
    }
    async fn digest(&self, name: &str) -> Result<String> {
        Ok(format!("sha256:{name}"))
    }
    async fn names(&self) -> Result<Vec<String>> {
        Ok(vec!["base".into()])
    }
    async fn fetch(&self, _: &str, _: Option<(String, String)>) -> Result<()> {
        none()
    }
}

fn none<T>() -> Result<T> {
    Err(Error::unsupported("there are no images here"))
}

#[async_trait]
impl ImageService for NoImages {
    async fn list(&self) -> Result<Vec<Image>> {
        none()
    }
    async fn inspect(&self, _: &str) -> Result<Image> {
        none()
    }
    async fn pull(&self, _: OrgId, _: PullImage) -> Result<BoxStream<'static, Result<PullEvent>>> {
        none()
    }
    async fn import(&self, _: String, _: ByteStream) -> Result<Image> {
        none()
    }
    async fn remove(&self, _: &str) -> Result<()> {
        none()
    }
}
