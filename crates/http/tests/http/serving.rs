//! Connections: slow ones, hostile ones, and the end of the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Version;
use serde_json::json;
use skerry_http::Settings;
use skerry_proto::node::NodeHealth;
use skerry_types::ExecEnd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, send};

/// What an HTTP/2 client begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sends bytes and reads until the server closes.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as a close.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_that_cannot_be_are_cut_off() {
    let world = World::new().await;
    assert!(
        raw(&world, b"\x16\x03\x01 tls?\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
    let many = "X-A: b\r\n".repeat(200);
    let head = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    assert!(
        raw(&world, head.as_bytes())
            .await
            .starts_with("HTTP/1.1 431")
    );
    let long = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    assert!(
        raw(&world, long.as_bytes())
            .await
            .starts_with("HTTP/1.1 431")
    );
    let none = raw(&world, b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(none.starts_with("HTTP/1.1 421"), "{none}");
    let two =
        "GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(
        raw(&world, two.as_bytes())
            .await
            .starts_with("HTTP/1.1 421")
    );
}

#[tokio::test]
async fn clients_that_dawdle_are_let_go() {
    let settings = Settings {
        patience: Duration::from_millis(50),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let s = world.sandbox().await;
    assert_eq!(raw(&world, b"").await, "");
    let head = raw(&world, b"GET /health HTTP/1.1\r\nHost: local").await;
    assert!(!head.contains("200 OK"), "{head}");
    for request in ["POST /v1/sandboxes", &format!("PUT {s}/files?path=/part")] {
        let request = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
            world.key
        );
        let body = raw(&world, request.as_bytes()).await;
        assert!(body.contains("request_timeout"), "{body}");
    }
    let named = "--x\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\n/part";
    let begun = format!(
        "{named}\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhalf"
    );
    for form in ["", named, &begun] {
        let request = format!(
            "POST {s}/files/write HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n\
             Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n{form}",
            world.key
        );
        let body = raw(&world, request.as_bytes()).await;
        assert!(body.starts_with("HTTP/1.1 4"), "{body}");
    }
    assert_eq!(
        world.get(&format!("{s}/files?path=/part")).await.status,
        404
    );
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_body_reaches_its_sender() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    let head = format!(
        "PUT {s}/files?path=/x HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n",
        world.key,
        1_u64 << 40
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Much more than the buffers between here and there hold, from a client that looks for an answer only afterwards.
    let piece = vec![0; 1024 * 1024];
    for _ in 0..12 {
        stream.write_all(&piece).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert!(answer.contains("too_large"), "{answer}");
}

#[tokio::test]
async fn the_end_lets_work_finish_and_takes_no_more() {
    let world = World::new().await;
    let s = world.sandbox().await;
    // Two things under way: an exec that is waited for, and a stream that is followed.
    let exec = world.start(&s, "hold").await;
    let mut stream = world
        .request("GET", &format!("{s}/exec/{exec}/stream"))
        .send()
        .await
        .unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let waiting = world
        .request("POST", &format!("{s}/exec"))
        .json(&json!({"cmd": "hold"}));
    let waiting = tokio::spawn(send(waiting));
    let second = loop {
        let list = world.get(&format!("{s}/execs")).await.json();
        if let Some(exec) = list["execs"].get(1) {
            break exec["exec_id"].as_str().unwrap().to_owned();
        }
    };
    world.shutdown.cancel();
    assert!(
        stream.chunk().await.unwrap().is_none(),
        "streams end, their readers resume elsewhere"
    );
    let ready = send(world.bare("GET", "/readyz")).await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert_eq!(send(world.bare("GET", "/health")).await.status, 200);
    let refused = world.post("/v1/sandboxes", json!({})).await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, "service_unavailable".into())
    );
    assert_eq!(refused.header("connection"), "close");
    assert_ne!(refused.header("retry-after"), "");
    world
        .node
        .ends(second.parse().unwrap(), ExecEnd::Exited { code: 0 });
    assert_eq!(waiting.await.unwrap().json()["exit_code"], 0);
    world.server.await.unwrap();
}

#[tokio::test]
async fn nobody_holds_the_end_up_by_not_reading() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let exec = world.start(&s, "hold").await;
    let request = format!(
        "GET {s}/exec/{exec}/stream HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n\r\n",
        world.key
    );
    let mut stream = TcpStream::connect(&world.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_ne!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    // More than the buffers between here and there hold.
    for _ in 0..64 {
        world
            .node
            .writes(exec.parse().unwrap(), &vec![b'x'; 256 * 1024]);
    }
    world.shutdown.cancel();
    // The longest that the end may take is half a minute.
    let ended = tokio::time::timeout(Duration::from_secs(20), world.server);
    ended.await.expect("it waits for a reader").unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_unix_socket_serves_the_same() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let shutdown = world.shutdown.clone();
    let router = skerry_http::router(world.app.clone());
    let server = tokio::spawn(skerry_http::serve(
        listener,
        world.app.clone(),
        router,
        shutdown,
    ));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.shutdown.cancel();
    server.await.unwrap();
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_the_request_and_no_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    // For all tests of the binary: what one thread alone listens to, others may switch off.
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("skerry=trace,skerry_http=trace,skerry_control=trace")
        .with_writer(move || writer.clone())
        .init();
    let world = World::new().await;
    let s = world.sandbox().await;
    let exec = json!({"cmd": "echo hello", "env": {"TOKEN": "hush-env"}});
    let answer = world
        .post(&format!("{s}/exec?x=hush-query"), exec.clone())
        .await;
    assert_eq!(answer.status, 200);
    let written = String::from_utf8(lines.0.lock().clone()).unwrap();
    let id = answer.header("x-request-id");
    let line = written
        .lines()
        .find(|line| line.contains("skerry::access") && line.contains(id))
        .unwrap_or_else(|| panic!("{id} is not in {written}"));
    let sandbox = s.rsplit('/').next().unwrap();
    for part in [
        "/v1/sandboxes/{id}/exec",
        sandbox,
        "status=200",
        "method=POST",
    ] {
        assert!(line.contains(part), "{line} has no {part}");
    }
    let own = written.lines().filter(|line| line.contains("skerry"));
    for line in own {
        assert!(
            !line.contains("hush") && !line.contains(&world.key),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_node_that_can_keep_nothing_makes_the_server_unready() {
    let world = World::new().await;
    let ready = async || send(world.bare("GET", "/readyz")).await;
    assert_eq!(ready().await.status, 200);
    *world.node.health.lock() = NodeHealth {
        records: Some("the records take all they may".into()),
        ..NodeHealth::default()
    };
    let answer = ready().await;
    let checks = answer.json()["checks"].as_array().unwrap().clone();
    let bad: Vec<_> = checks.iter().filter(|c| c["ok"] == false).collect();
    assert_eq!((answer.status, bad.len()), (503, 1), "{checks:?}");
    assert_eq!(
        bad[0],
        &json!({"name": "records", "ok": false, "message": "the records take all they may"})
    );
}

#[tokio::test]
async fn http_2_is_the_same_server() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let address: SocketAddr = world.address.parse().unwrap();
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .resolve("evil.example", address)
        .build()
        .unwrap();
    let url = |path: &str| format!("http://{}{path}", world.address);
    let get = async |path: &str| client.get(url(path)).bearer_auth(&world.key).send().await;
    let home = get("/health").await.unwrap();
    assert_eq!(
        (home.status().as_u16(), home.version()),
        (200, Version::HTTP_2)
    );
    let anonymous = client.get(url("/v1/sandboxes")).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    let evil = format!("http://evil.example:{}/health", address.port());
    assert_eq!(client.get(evil).send().await.unwrap().status(), 421);
    let long = client.get(url("/health")).header("x", "x".repeat(100_000));
    assert!(long.send().await.is_ok_and(|answer| answer.status() == 431));
    // Many at once on one connection, one of them without an end, and then the server ends.
    let held = world.start(&s, "hold").await;
    let mut stream = get(&format!("{s}/exec/{held}/stream")).await.unwrap();
    let many = (0..200).map(|_| get("/v1/sandboxes"));
    for answer in futures::future::join_all(many).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    world.node.writes(held.parse().unwrap(), b"hello");
    let mut text = String::new();
    while !text.contains("hello") {
        text += &String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap());
    }
    world.shutdown.cancel();
    while stream.chunk().await.unwrap().is_some() {}
    world.server.await.unwrap();
}

#[tokio::test]
async fn http_2_clients_that_dawdle_are_let_go_too() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    // A head that goes on and on: more of it is promised with each frame.
    const HEADERS: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
    let settings = Settings {
        patience: Duration::from_millis(50),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    for part in [&PREFACE[..10], PREFACE, &[PREFACE, SETTINGS].concat()] {
        raw(&world, part).await;
    }
    raw(&world, &[PREFACE, SETTINGS, HEADERS].concat()).await;
}

/// Two places, of which a stream that has nothing to say has one; and what is to go on with it when others needed theirs.
async fn crowded() -> (World, impl AsyncFnOnce(World)) {
    let settings = Settings {
        patience: Duration::from_millis(50),
        connections: 2,
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let s = world.sandbox().await;
    let exec = world.start(&s, "hold").await;
    let path = format!("{s}/exec/{exec}/stream");
    let mut quiet = world.request("GET", &path).send().await.unwrap();
    assert!(quiet.chunk().await.unwrap().is_some());
    let goes_on = async move |world: World| {
        world.node.writes(exec.parse().unwrap(), b"more");
        assert!(quiet.chunk().await.unwrap().is_some());
    };
    (world, goes_on)
}

#[tokio::test]
async fn who_takes_no_answer_makes_room() {
    let (world, goes_on) = crowded().await;
    let s = world.sandbox().await;
    let path = format!("{s}/files?path=/much");
    // More than all buffers hold.
    let put = world.request("PUT", &path).body(vec![0; 32_000_000]);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let untaken = world.request("GET", &path).send().await.unwrap();
    let mut other = TcpStream::connect(&world.address).await.unwrap();
    assert!(ask(&mut other).await);
    assert!(untaken.bytes().await.is_err());
    goes_on(world).await;
}

#[tokio::test]
async fn http_2_clients_that_take_no_answer_make_room_too() {
    let (world, goes_on) = crowded().await;
    let greedy = reqwest::Client::builder()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(0)
        .build()
        .unwrap();
    let url = format!("http://{}/", world.address);
    let untaken = greedy.get(url).send().await.unwrap();
    let mut other = TcpStream::connect(&world.address).await.unwrap();
    assert!(ask(&mut other).await);
    assert!(untaken.bytes().await.is_err());
    goes_on(world).await;
}

/// Asks on a connection that is kept, and reads the answer.
async fn ask(stream: &mut TcpStream) -> bool {
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if stream.write_all(request).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn a_connection_rests_longer_than_a_head_may_take() {
    let settings = Settings {
        patience: Duration::from_millis(50),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let mut kept = TcpStream::connect(&world.address).await.unwrap();
    assert!(ask(&mut kept).await);
    // Others are let go meanwhile, so that time passes.
    assert_eq!(raw(&world, b"").await, "");
    assert!(ask(&mut kept).await);
    // Its next head has to come in time again.
    kept.write_all(b"GET /health").await.unwrap();
    let mut answer = Vec::new();
    let _reset = kept.read_to_end(&mut answer).await;
    assert!(answer.is_empty());

    let settings = Settings {
        rest: Duration::from_millis(50),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let mut kept = TcpStream::connect(&world.address).await.unwrap();
    assert!(ask(&mut kept).await);
    assert_eq!(kept.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn who_rests_longest_makes_room() {
    let settings = Settings {
        connections: 3,
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let s = world.sandbox().await;
    let exec = world.start(&s, "hold").await;
    // What has something to do is not asked to go.
    let mut stream = world
        .request("GET", &format!("{s}/exec/{exec}/stream"))
        .send()
        .await
        .unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let mut resting = Vec::new();
    for _ in 0..4 {
        let mut kept = TcpStream::connect(&world.address).await.unwrap();
        assert!(ask(&mut kept).await);
        resting.push(kept);
    }
    for gone in &mut resting[..2] {
        assert_eq!(gone.read(&mut [0]).await.unwrap(), 0);
    }
    for kept in &mut resting[2..] {
        assert!(ask(kept).await);
    }
    world.node.writes(exec.parse().unwrap(), b"more");
    assert!(stream.chunk().await.unwrap().is_some());
}

#[tokio::test]
async fn who_waited_for_a_place_is_served() {
    let settings = Settings {
        connections: 2,
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let s = world.sandbox().await;
    let mut streams = Vec::new();
    // Both places have something to do, so nobody can be asked to leave.
    for _ in 0..2 {
        let exec = world.start(&s, "hold").await;
        let path = format!("{s}/exec/{exec}/stream");
        let mut stream = world.request("GET", &path).send().await.unwrap();
        assert!(stream.chunk().await.unwrap().is_some());
        streams.push(stream);
    }
    let mut waiting = TcpStream::connect(&world.address).await.unwrap();
    let asked = tokio::spawn(async move { ask(&mut waiting).await });
    tokio::task::yield_now().await;
    drop(streams);
    assert!(asked.await.unwrap());
}
