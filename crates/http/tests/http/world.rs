//! A whole server on a loopback port: the real edge and control with SQLite, over a node in memory.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use skerry_api::{Image, PullEvent, PullImage};
use skerry_control::{Control, ImageCatalogue, Member, NodeFacts, Nodes, Offer};
use skerry_http::{App, ImageService, Settings};
use skerry_proto::node::ByteStream;
use skerry_store::{LOCAL_NODE, Location, NewKey, Org, Quotas, Store, System, Tenant};
use skerry_types::{Error, ExecEnd, ImageId, KeyId, OrgId, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::node::FakeNode;

pub struct World {
    pub app: App,
    pub address: String,
    pub node: Arc<FakeNode>,
    /// Counts for everything in the first org.
    pub key: String,
    /// Counts for everything in another org.
    pub other: String,
    /// Counts for everything in an org that may make two sandboxes, start one exec and ask three times else in a minute.
    pub limited: String,
    /// Counts in the first org for a scope that no route asks for.
    pub idle: String,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<()>,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: {:?} is not JSON", self.status, self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The error code, after looking that the envelope is whole.
    #[track_caller]
    pub fn code(&self) -> String {
        let body = self.json();
        assert_eq!(body["error"], body["code"], "{body}");
        assert!(
            body["message"].is_string() && body.get("retry_after").is_some(),
            "{body}"
        );
        assert_eq!(body["request_id"], self.header("x-request-id"), "{body}");
        assert!(self.header("x-request-id").starts_with("req_"));
        body["code"].as_str().unwrap().to_owned()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Box::pin(Self::with_slots(settings, 1000)).await
    }

    pub async fn with_slots(settings: Settings, slots: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Location::Sqlite(folder.path().join("db")))
            .await
            .unwrap();
        let other = add_org(&store, "other", Quotas::LOCAL).await;
        let few = Quotas {
            creates_per_minute: 2,
            execs_per_minute: 1,
            reads_per_minute: 3,
            ..Quotas::LOCAL
        };
        let limited = add_org(&store, "limited", few).await;
        let idle = add_key(&store, OrgId::LOCAL, "sk_idle", &["artifact:write"]).await;
        let node = FakeNode::new();
        node.script(
            "echo hello",
            vec!["hello\n".into()],
            Some(ExecEnd::Exited { code: 0 }),
        );
        node.script("hold", vec![], None);
        let facts = NodeFacts {
            id: LOCAL_NODE,
            name: "fake".into(),
            region: "local".into(),
            slots,
            offers: vec![Offer {
                driver: "sim".into(),
                isolation: "none".into(),
                volumes: true,
            }],
        };
        let member = Member {
            facts,
            handle: node.clone(),
        };
        let control = Control::start(
            store,
            Nodes::new(vec![member]),
            Arc::new(Images),
            skerry_control::Settings {
                uploads: Some(folder.path().join("uploads")),
                ..skerry_control::Settings::default()
            },
        )
        .await
        .unwrap();
        let key = control
            .ensure_local_key(&folder.path().join("key"))
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = App::new(control, Arc::new(Images), settings);
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(skerry_http::serve_tcp(
            listener,
            app.clone(),
            skerry_http::router(app.clone()),
            shutdown.clone(),
        ));
        Self {
            app,
            address,
            node,
            key,
            other,
            limited,
            idle,
            shutdown,
            server,
            client: reqwest::Client::new(),
            _folder: folder,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }

    /// A request without a key.
    pub fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request("GET", path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        send(self.request("POST", path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        send(self.request("PUT", path).json(&body)).await
    }

    /// A new sandbox's path.
    pub async fn sandbox(&self) -> String {
        let made = self.post("/v1/sandboxes", serde_json::json!({})).await;
        assert_eq!(
            (made.status, &made.json()["status"]),
            (201, &"running".into())
        );
        format!(
            "/v1/sandboxes/{}",
            made.json()["sandbox_id"].as_str().unwrap()
        )
    }

    /// A started exec's id.
    pub async fn start(&self, sandbox: &str, cmd: &str) -> String {
        let body = serde_json::json!({"cmd": cmd, "wait": false});
        let started = self.post(&format!("{sandbox}/exec"), body).await;
        assert_eq!(started.status, 202, "{:?}", started.body);
        started.json()["exec_id"].as_str().unwrap().to_owned()
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap(),
    }
}

async fn add_org(store: &Store, name: &str, quotas: Quotas) -> String {
    let org = Org {
        id: OrgId::new(),
        name: name.into(),
        slug: name.into(),
        created_at: Timestamp::now(),
    };
    store
        .create_org(&System::on_its_own_behalf(), &org, quotas)
        .await
        .unwrap();
    add_key(store, org.id, &format!("sk_{name}"), &[]).await
}

async fn add_key(store: &Store, org: OrgId, secret: &str, scopes: &[&str]) -> String {
    use sha2::{Digest, Sha256};
    let key = NewKey {
        id: KeyId::new(),
        name: secret.into(),
        prefix: secret.into(),
        hash: Sha256::digest(secret).into(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        expires_at: None,
    };
    store
        .create_key(&Tenant::of(org), key, Timestamp::now())
        .await
        .unwrap();
    secret.to_owned()
}

struct Images;

fn image(reference: &str) -> Image {
    Image {
        id: ImageId::new(),
        reference: reference.into(),
        kind: "oci".into(),
        digest: "sha256:0".into(),
        size_bytes: 1,
        created_at: Timestamp::UNIX_EPOCH,
        user: "root".into(),
        workdir: "/".into(),
    }
}

#[async_trait]
impl ImageCatalogue for Images {
    async fn resolve(&self, reference: &str) -> Result<Option<String>> {
        Ok((reference == "base").then(|| reference.to_owned()))
    }
    async fn digest(&self, name: &str) -> Result<String> {
        Ok(format!("sha256:{name}"))
    }

    async fn fetch(&self, reference: &str, _: Option<(String, String)>) -> Result<()> {
        Err(Error::not_found(reference))
    }

    async fn names(&self) -> Result<Vec<String>> {
        Ok(vec!["base".into()])
    }
}

#[async_trait]
impl ImageService for Images {
    async fn list(&self) -> Result<Vec<Image>> {
        Ok(vec![image("base")])
    }
    async fn inspect(&self, reference: &str) -> Result<Image> {
        Ok(image(reference))
    }
    async fn pull(
        &self,
        _: OrgId,
        request: PullImage,
    ) -> Result<BoxStream<'static, Result<PullEvent>>> {
        let done = PullEvent::Done {
            image: image(&request.reference),
        };
        Ok(futures::stream::iter([Ok(done)]).boxed())
    }
    async fn import(&self, reference: String, mut archive: ByteStream) -> Result<Image> {
        while let Some(chunk) = archive.next().await {
            chunk?;
        }
        Ok(image(&reference))
    }
    async fn remove(&self, reference: &str) -> Result<()> {
        if reference == "base" {
            return Err(Error::conflict("a sandbox uses it"));
        }
        Ok(())
    }
}
