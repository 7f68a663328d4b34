//! Every operation of the document, as nobody, as another tenant, with a key that lacks the scope, and as it should be.
//!
//! A new operation without a line in `example` fails here.

use reqwest::RequestBuilder;
use reqwest::multipart::Form;
use serde_json::{Value, json};

use crate::world::World;

/// A request of an operation that works for the right tenant, and the status it is answered with.
struct Example {
    path: String,
    body: Body,
    status: u16,
}

enum Body {
    None,
    Json(Value),
    Bytes,
    Form,
    WebSocket,
}

/// Makes what it names.
const BUILD: &str = "POST /v1/templates/{reference}/builds";

/// Things for an operation to work on.
struct Things {
    sandbox: String,
    held: String,
    ended: String,
    terminal: String,
    session: String,
    snapshot: String,
    volume: String,
    build: String,
}

impl Things {
    async fn new(world: &World) -> Self {
        let sandbox = world.sandbox().await;
        let held = world.start(&sandbox, "hold").await;
        let ended = world.start(&sandbox, "echo hello").await;
        let id = |answer: Value, name: &str| {
            let found = answer[name].as_str();
            found.unwrap_or_else(|| panic!("{answer}")).to_owned()
        };
        let opened = world
            .post(&format!("{sandbox}/pty"), json!({"cmd": "hold"}))
            .await;
        let terminal = id(opened.json(), "exec_id");
        let opened = world.post(&format!("{sandbox}/sessions"), json!({})).await;
        let session = id(opened.json(), "session_id");
        let taken = world.post(&format!("{sandbox}/snapshots"), json!({})).await;
        let snapshot = id(taken.json(), "snapshot_id");
        let name = json!({"name": format!("of-{snapshot}"), "size_mb": 16});
        let made = world.post("/v1/volumes", name).await;
        let volume = format!("/v1/volumes/{}", id(made.json(), "volume_id"));
        let file = world.request("PUT", &format!("{volume}/files?path=/a"));
        assert_eq!(file.body("a").send().await.unwrap().status(), 200);
        let recipe = json!({"recipe": {"from": "base"}});
        let begun = world.post("/v1/templates/app/builds", recipe).await;
        let build = format!("/v1/templates/app/builds/{}", id(begun.json(), "build_id"));
        // Its log ends when it does.
        let log = world.get(&format!("{build}/logs")).await;
        assert!(
            log.body.ends_with(b"\"message\":\"ready\"}\n\n"),
            "{:?}",
            log.body
        );
        let file = world.request("PUT", &format!("{sandbox}/files?path=/a"));
        assert_eq!(file.body("a").send().await.unwrap().status(), 200);
        Self {
            sandbox,
            held,
            ended,
            terminal,
            session,
            snapshot,
            volume,
            build,
        }
    }
}

fn example(operation: &str, things: &Things) -> Example {
    let Things {
        sandbox: s,
        held,
        ended,
        terminal,
        session,
        snapshot,
        volume: v,
        build,
    } = things;
    let (path, body, status) = match operation {
        "GET /health" | "GET /healthz" | "GET /readyz" => {
            (operation[4..].to_owned(), Body::None, 200)
        }
        "POST /v1/sandboxes" => ("/v1/sandboxes".into(), Body::Json(json!({})), 201),
        "GET /v1/sandboxes" => ("/v1/sandboxes".into(), Body::None, 200),
        "GET /v1/sandboxes/{id}" => (s.clone(), Body::None, 200),
        "DELETE /v1/sandboxes/{id}" => (s.clone(), Body::None, 200),
        "POST /v1/sandboxes/{id}/stop" => (format!("{s}/stop"), Body::None, 202),
        "POST /v1/sandboxes/{id}/fork" => (format!("{s}/fork"), Body::Json(json!({})), 201),
        "POST /v1/sandboxes/{id}/forks" => {
            (format!("{s}/forks"), Body::Json(json!({"count": 2})), 201)
        }
        "GET /v1/sandboxes/{id}/forks" => (format!("{s}/forks"), Body::None, 200),
        "POST /v1/sandboxes/{id}/timeout" => (
            format!("{s}/timeout"),
            Body::Json(json!({"ttl_seconds": 60})),
            200,
        ),
        "PUT /v1/sandboxes/{id}/egress" => (format!("{s}/egress"), Body::Json(json!({})), 200),
        "POST /v1/sandboxes/{id}/pause" => (format!("{s}/pause"), Body::None, 200),
        "POST /v1/sandboxes/{id}/resume" => (format!("{s}/resume"), Body::None, 200),
        "POST /v1/sandboxes/{id}/start" => (format!("{s}/start"), Body::None, 200),
        "POST /v1/sandboxes/{id}/ping" => (format!("{s}/ping"), Body::None, 204),
        "GET /v1/sandboxes/{id}/metrics" => (format!("{s}/metrics"), Body::None, 200),
        "GET /v1/sandboxes/{id}/processes" => (format!("{s}/processes"), Body::None, 200),
        "GET /v1/sandboxes/{id}/wait" => (format!("{s}/wait"), Body::None, 200),
        "GET /v1/sandboxes/{id}/ports/{port}" => (format!("{s}/ports/3000"), Body::None, 200),
        "GET /v1/sandboxes/{id}/events" => (format!("{s}/events"), Body::None, 200),
        "GET /v1/sandboxes/{id}/stream" => (format!("{s}/stream"), Body::None, 200),
        "POST /v1/sandboxes/{id}/exec" => (
            format!("{s}/exec"),
            Body::Json(json!({"cmd": "echo hello"})),
            200,
        ),
        "GET /v1/sandboxes/{id}/execs" => (format!("{s}/execs"), Body::None, 200),
        "GET /v1/sandboxes/{id}/exec/{exec_id}" => (format!("{s}/exec/{held}"), Body::None, 200),
        "GET /v1/sandboxes/{id}/exec/{exec_id}/stream" => {
            (format!("{s}/exec/{ended}/stream"), Body::None, 200)
        }
        "GET /v1/sandboxes/{id}/exec/{exec_id}/log" => {
            (format!("{s}/exec/{ended}/log"), Body::None, 200)
        }
        "GET /v1/sandboxes/{id}/exec/{exec_id}/ws" => {
            (format!("{s}/exec/{ended}/ws"), Body::WebSocket, 101)
        }
        "POST /v1/sandboxes/{id}/exec/{exec_id}/stdin" => {
            (format!("{s}/exec/{held}/stdin"), Body::Bytes, 204)
        }
        "POST /v1/sandboxes/{id}/exec/{exec_id}/signal" => (
            format!("{s}/exec/{held}/signal"),
            Body::Json(json!({"signal": "TERM"})),
            204,
        ),
        "POST /v1/sandboxes/{id}/sessions" => (format!("{s}/sessions"), Body::Json(json!({})), 201),
        "GET /v1/sandboxes/{id}/sessions" => (format!("{s}/sessions"), Body::None, 200),
        "DELETE /v1/sandboxes/{id}/sessions/{session_id}" => {
            (format!("{s}/sessions/{session}"), Body::None, 200)
        }
        "POST /v1/sandboxes/{id}/sessions/{session_id}/exec" => (
            format!("{s}/sessions/{session}/exec"),
            Body::Json(json!({"cmd": "echo hello"})),
            200,
        ),
        "POST /v1/sandboxes/{id}/sessions/{session_id}/input" => (
            format!("{s}/sessions/{session}/input"),
            Body::Json(json!({"data": "x"})),
            204,
        ),
        "GET /v1/sandboxes/{id}/sessions/{session_id}/stream" => {
            (format!("{s}/sessions/{session}/stream"), Body::None, 200)
        }
        "POST /v1/sandboxes/{id}/pty" => {
            (format!("{s}/pty"), Body::Json(json!({"cmd": "hold"})), 201)
        }
        "DELETE /v1/sandboxes/{id}/pty/{exec_id}" => {
            (format!("{s}/pty/{terminal}"), Body::None, 200)
        }
        "GET /v1/sandboxes/{id}/pty/{exec_id}/ws" => {
            (format!("{s}/pty/{terminal}/ws"), Body::WebSocket, 101)
        }
        "POST /v1/sandboxes/{id}/pty/{exec_id}/resize" => {
            let size = json!({"cols": 100, "rows": 30});
            (format!("{s}/pty/{terminal}/resize"), Body::Json(size), 204)
        }
        "GET /v1/sandboxes/{id}/files" => (format!("{s}/files?path=/a"), Body::None, 200),
        "PUT /v1/sandboxes/{id}/files" => (format!("{s}/files?path=/b"), Body::Bytes, 200),
        "DELETE /v1/sandboxes/{id}/files" => (format!("{s}/files?path=/a"), Body::None, 204),
        "GET /v1/sandboxes/{id}/files/stat" => (format!("{s}/files/stat?path=/a"), Body::None, 200),
        "GET /v1/sandboxes/{id}/files/watch" => {
            (format!("{s}/files/watch?path=/"), Body::None, 200)
        }
        "POST /v1/sandboxes/{id}/files/mkdir" => (
            format!("{s}/files/mkdir"),
            Body::Json(json!({"path": "/d"})),
            204,
        ),
        "POST /v1/sandboxes/{id}/files/move" => {
            let names = json!({"from": "/a", "to": "/c"});
            (format!("{s}/files/move"), Body::Json(names), 204)
        }
        "POST /v1/sandboxes/{id}/files/read" => (
            format!("{s}/files/read"),
            Body::Json(json!({"path": "/a"})),
            200,
        ),
        "POST /v1/sandboxes/{id}/files/write" => (format!("{s}/files/write"), Body::Form, 204),
        "POST /v1/sandboxes/{id}/snapshots" => {
            (format!("{s}/snapshots"), Body::Json(json!({})), 201)
        }
        "GET /v1/sandboxes/{id}/snapshots" => (format!("{s}/snapshots"), Body::None, 200),
        "POST /v1/sandboxes/{id}/rollback" => (
            format!("{s}/rollback"),
            Body::Json(json!({"snapshot": snapshot})),
            200,
        ),
        "GET /v1/snapshots" => ("/v1/snapshots".into(), Body::None, 200),
        "GET /v1/snapshots/{reference}" => (format!("/v1/snapshots/{snapshot}"), Body::None, 200),
        "DELETE /v1/snapshots/{reference}" => {
            (format!("/v1/snapshots/{snapshot}"), Body::None, 204)
        }
        "POST /v1/volumes" => (
            "/v1/volumes".into(),
            Body::Json(json!({"name": "another", "size_mb": 16})),
            201,
        ),
        "GET /v1/volumes" => ("/v1/volumes".into(), Body::None, 200),
        "GET /v1/volumes/{reference}" => (v.clone(), Body::None, 200),
        "DELETE /v1/volumes/{reference}" => (v.clone(), Body::None, 204),
        "GET /v1/volumes/{reference}/files" => (format!("{v}/files?path=/a"), Body::None, 200),
        "PUT /v1/volumes/{reference}/files" => (format!("{v}/files?path=/b"), Body::Bytes, 200),
        "DELETE /v1/volumes/{reference}/files" => (format!("{v}/files?path=/a"), Body::None, 204),
        "GET /v1/volumes/{reference}/files/stat" => {
            (format!("{v}/files/stat?path=/a"), Body::None, 200)
        }
        "POST /v1/volumes/{reference}/files/mkdir" => (
            format!("{v}/files/mkdir"),
            Body::Json(json!({"path": "/d"})),
            204,
        ),
        "GET /v1/templates" => ("/v1/templates".into(), Body::None, 200),
        "GET /v1/templates/{reference}" => ("/v1/templates/app".into(), Body::None, 200),
        "DELETE /v1/templates/{reference}" => ("/v1/templates/app".into(), Body::None, 204),
        BUILD => (
            "/v1/templates/app:v2/builds".into(),
            Body::Json(json!({"recipe": {"from": "base"}})),
            202,
        ),
        "GET /v1/templates/{reference}/builds" => {
            ("/v1/templates/app/builds".into(), Body::None, 200)
        }
        "GET /v1/templates/{reference}/builds/{build_id}" => (build.clone(), Body::None, 200),
        "GET /v1/templates/{reference}/builds/{build_id}/logs" => {
            (format!("{build}/logs"), Body::None, 200)
        }
        "POST /v1/templates/{reference}/builds/{build_id}/cancel" => {
            (format!("{build}/cancel"), Body::None, 200)
        }
        "GET /v1/uploads/{hash}" => (upload(), Body::None, 200),
        "PUT /v1/uploads/{hash}" => (upload(), Body::Bytes, 204),
        "GET /v1/images" => ("/v1/images".into(), Body::None, 200),
        "GET /v1/images/{reference}" => ("/v1/images/a%2Fb:1".into(), Body::None, 200),
        "DELETE /v1/images/{reference}" => ("/v1/images/old".into(), Body::None, 204),
        "POST /v1/images/pull" => (
            "/v1/images/pull".into(),
            Body::Json(json!({"reference": "debian"})),
            200,
        ),
        "POST /v1/images/import" => ("/v1/images/import?reference=x".into(), Body::Bytes, 201),
        other => panic!("{other} has no example: write one, so that its access is tested"),
    };
    Example { path, body, status }
}

/// Of what `Body::Bytes` sends.
fn upload() -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest("bytes");
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("/v1/uploads/{hash}")
}

fn with_body(request: RequestBuilder, body: &Body) -> RequestBuilder {
    match body {
        Body::None => request,
        Body::Json(value) => request.json(value),
        Body::Bytes => request.body("bytes"),
        Body::Form => request.multipart(Form::new().text("path", "/f").text("file", "content")),
        Body::WebSocket => request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    }
}

/// `GET /v1/…`, all of the document.
pub fn documented() -> Vec<String> {
    let document = serde_json::to_value(skerry_http::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

#[tokio::test]
async fn every_operation_asks_who_it_is() {
    let world = World::new().await;
    for operation in documented() {
        let method = operation.split(' ').next().unwrap();
        let things = Things::new(&world).await;
        let Example { path, body, status } = example(&operation, &things);
        let ask = async |key: Option<&str>| {
            let request = world.bare(method, &path);
            let request = match key {
                Some(key) => request.header("x-api-key", key),
                None => request,
            };
            let response = with_body(request, &body).send().await.unwrap();
            response.status().as_u16()
        };
        if path.starts_with("/v1/") {
            assert_eq!(ask(None).await, 401, "{operation} without a key");
            assert_eq!(
                ask(Some("sk_guess")).await,
                401,
                "{operation} with a wrong key"
            );
            assert_eq!(
                ask(Some(&world.idle)).await,
                403,
                "{operation} without its scope"
            );
        } else {
            assert_eq!(ask(None).await, 200, "{operation} is open");
        }
        let is_owned = [
            "{id}",
            "/snapshots/{reference}",
            "/templates/{reference}",
            "/volumes/{reference}",
        ];
        // Anyone may build one of that name.
        if operation != BUILD && is_owned.iter().any(|part| operation.contains(part)) {
            assert_eq!(
                ask(Some(&world.other)).await,
                404,
                "{operation} of another tenant"
            );
        }
        assert_eq!(ask(Some(&world.key)).await, status, "{operation}");
    }
}

#[tokio::test]
async fn lists_and_keys_of_one_tenant_say_nothing_of_another() {
    let world = World::new().await;
    let once = |key: &str| {
        let request = world
            .bare("POST", "/v1/sandboxes")
            .bearer_auth(key.to_owned());
        request.header("idempotency-key", "k").json(&json!({}))
    };
    let first: Value = once(&world.key).send().await.unwrap().json().await.unwrap();
    let second: Value = once(&world.other)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_ne!(first["sandbox_id"], second["sandbox_id"]);
    let list = world.get("/v1/sandboxes").await.json();
    assert_eq!(list["sandboxes"].as_array().unwrap().len(), 1);
    assert_eq!(list["sandboxes"][0]["sandbox_id"], first["sandbox_id"]);
}
