//! Ports of sandboxes by their host names: who gets in, and what passes in both directions.

use std::collections::HashMap;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::{SinkExt, StreamExt};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use skerry_types::SandboxId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::world::{World, send};

/// A program that listens; it says what it was asked.
async fn program() -> u16 {
    let app = Router::new()
        .route("/ws", get(echo_socket))
        .route("/stream", any(stream))
        .fallback(any(mirror));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

async fn mirror(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers: HashMap<String, String> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let said = json!({
        "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers,
        "bytes": body.len(),
    });
    let mut response = axum::Json(said).into_response();
    let headers = response.headers_mut();
    for cookie in ["a=1; Domain=boxes.example; Path=/", "b=2; HttpOnly"] {
        headers.append("set-cookie", HeaderValue::from_static(cookie));
    }
    headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
    headers.insert("x-own", HeaderValue::from_static("kept"));
    response
}

/// Says each piece of the request back as it comes.
async fn stream(request: Request) -> Response {
    Response::new(Body::from_stream(request.into_body().into_data_stream()))
}

async fn echo_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// A sandbox with a program that listens.
struct Site {
    world: World,
    path: String,
    host: String,
    port: u16,
}

impl Site {
    async fn new(order: Value) -> Self {
        let world = World::new().await;
        let port = program().await;
        let made = world.post("/v1/sandboxes", order).await.json();
        let id = made["sandbox_id"].as_str().unwrap();
        let label = id.parse::<SandboxId>().unwrap().label();
        Self {
            path: format!("/v1/sandboxes/{id}"),
            host: format!("{port}-{label}.localhost"),
            world,
            port,
        }
    }

    fn at(&self, host: &str, method: &str, path: &str) -> RequestBuilder {
        self.world.bare(method, path).header("host", host)
    }

    fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        self.at(&self.host, method, path)
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.bare(method, path).header("x-api-key", &self.world.key)
    }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn only_whoever_may_gets_in() {
    let port = Site::new(json!({})).await;
    let world = &port.world;
    let with = |key: &str| port.bare("GET", "/").header("x-api-key", key);
    assert_eq!(status(with(&world.key)).await, 200);
    assert_eq!(
        status(port.bare("GET", "/").bearer_auth(&world.key)).await,
        200
    );
    assert_eq!(status(with(&world.other)).await, 404, "another tenant");
    assert_eq!(
        status(with(&world.idle)).await,
        403,
        "a key without the scope"
    );
    assert_eq!(status(with("sk_guess")).await, 401);
    assert_eq!(status(port.bare("GET", "/")).await, 401);
    let jwt = "eyJhbGciOiJIUzI1NiJ9.e30.x";
    assert_eq!(status(port.bare("GET", "/").bearer_auth(jwt)).await, 401);
    let cookie = port
        .bare("GET", "/")
        .header("cookie", "skerry_access=1.f; session=x");
    assert_eq!(status(cookie).await, 401);
    let nobody = format!("{}-{}.localhost", port.port, SandboxId::new().label());
    assert_eq!(
        status(port.at(&nobody, "GET", "/")).await,
        401,
        "says nothing"
    );
    let asked = port.at(&nobody, "GET", "/").header("x-api-key", &world.key);
    assert_eq!(status(asked).await, 404);
    for bad in ["0-x.localhost", "65536-x.localhost"] {
        assert_eq!(status(port.at(bad, "GET", "/")).await, 400, "{bad}");
    }
}

#[tokio::test]
async fn what_cannot_answer_is_told_apart() {
    let port = Site::new(json!({})).await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let label = port.host.split_once('-').unwrap().1.to_owned();
    let at = |number: u16| {
        let host = format!("{number}-{label}");
        port.at(&host, "GET", "/")
            .header("x-api-key", &port.world.key)
    };
    let refused = send(at(closed)).await;
    assert_eq!(refused.status, 502);
    assert_eq!(refused.json()["error"], "port_closed");
    port.world
        .post(&format!("{}/stop", port.path), json!({}))
        .await;
    port.world
        .get(&format!("{}/wait?until=ended", port.path))
        .await;
    assert_eq!(send(at(port.port)).await.status, 409);
}

#[tokio::test]
async fn a_name_of_a_port_leads_to_the_program_only() {
    let port = Site::new(json!({})).await;
    for path in ["/", "/v1/sandboxes", "/healthz", "/docs", "/openapi.json"] {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "PROPFIND"] {
            let said = send(port.request(method, path)).await;
            assert_eq!(said.json()["target"], path, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn requests_and_answers_pass_but_for_what_is_ours() {
    let port = Site::new(json!({})).await;
    let asked = port
        .request("PUT", "/a%2Fb?x=1&x=%20")
        .header("cookie", "session=x; skerry_access=1.f")
        .header("authorization", "Basic dXNlcjo=")
        .header("connection", "x-hop")
        .header("x-hop", "hop")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-own", "kept")
        .body(vec![7; 3 << 20]);
    let answer = send(asked).await;
    let said = answer.json();
    assert_eq!((answer.status, &said["method"]), (200, &json!("PUT")));
    assert_eq!(said["target"], "/a%2Fb?x=1&x=%20");
    assert_eq!(said["bytes"], 3 << 20);
    let headers = &said["headers"];
    let expected = [
        ("host", json!(port.host)),
        ("x-forwarded-host", json!(port.host)),
        ("x-forwarded-proto", json!("http")),
        ("cookie", json!("session=x")),
        ("authorization", json!("Basic dXNlcjo=")),
        ("x-own", json!("kept")),
        ("x-hop", Value::Null),
        ("x-forwarded-for", json!("127.0.0.1")),
        ("x-api-key", Value::Null),
    ];
    for (name, value) in expected {
        assert_eq!(headers[name], value, "{name}");
    }
    let bearer = send(port.bare("GET", "/").bearer_auth(&port.world.key)).await;
    assert_eq!(bearer.json()["headers"]["authorization"], Value::Null);
    let own_key = port.request("GET", "/").bearer_auth("not-ours");
    assert_eq!(
        send(own_key).await.json()["headers"]["authorization"],
        "Bearer not-ours"
    );
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2; HttpOnly"]);
    assert_eq!(answer.headers.get("keep-alive"), None);
    assert_eq!(answer.headers["x-own"], "kept");
}

#[tokio::test]
async fn both_bodies_are_streams() {
    let port = Site::new(json!({})).await;
    let (say, said) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let said = futures::stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
    let asked = port
        .request("POST", "/stream")
        .body(reqwest::Body::wrap_stream(said));
    say.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
    let mut heard = asked.send().await.unwrap().bytes_stream();
    assert_eq!(heard.next().await.unwrap().unwrap(), "first");
    say.send(Ok(Bytes::from_static(b"second"))).await.unwrap();
    assert_eq!(heard.next().await.unwrap().unwrap(), "second");
    drop(say);
    assert!(heard.next().await.is_none());
}

#[tokio::test]
async fn websockets_pass_and_end_with_the_server() {
    let port = Site::new(json!({"public_ports": true})).await;
    let connect = async || {
        let stream = TcpStream::connect(&port.world.address).await.unwrap();
        let mut asked = format!("ws://{}/ws", port.host)
            .into_client_request()
            .unwrap();
        asked
            .headers_mut()
            .insert("origin", HeaderValue::from_static("http://anywhere"));
        tokio_tungstenite::client_async(asked, stream)
            .await
            .unwrap()
            .0
    };
    let mut socket = connect().await;
    for size in [1, 100_000] {
        let message = Message::Binary(vec![3; size].into());
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    let mut open = connect().await;
    port.world.shutdown.cancel();
    match open.next().await {
        None | Some(Err(WsError::Protocol(_) | WsError::Io(_))) => {}
        other => panic!("{other:?} from a server that ended"),
    }
}

#[tokio::test]
async fn a_connection_that_breaks_does_not_look_like_its_end() {
    let site = Site::new(json!({"public_ports": true})).await;
    let program = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = program.local_addr().unwrap().port();
    let host = site.host.replace(&site.port.to_string(), &port.to_string());
    for breaks in [false, true] {
        let mut client = TcpStream::connect(&site.world.address).await.unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut inside, _) = program.accept().await.unwrap();
        until(&mut inside, b"\r\n\r\n").await;
        let agreed = b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\nwelcome";
        inside.write_all(agreed).await.unwrap();
        until(&mut client, b"welcome").await;
        client.write_all(b"hello").await.unwrap();
        until(&mut inside, b"hello").await;
        if breaks {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        let end = inside.read(&mut [0]).await;
        assert_eq!(end.is_err(), breaks, "{end:?}");
    }
}

/// Reads as far as `end`.
async fn until(stream: &mut TcpStream, end: &[u8]) {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_link_lets_a_browser_in_and_no_other_page() {
    let port = Site::new(json!({})).await;
    let at = format!("{}/ports/{}", port.path, port.port);
    let given = port.world.get(&at).await.json();
    let (url, signed) = (
        given["url"].as_str().unwrap(),
        given["signed_url"].as_str().unwrap(),
    );
    assert_eq!(url, format!("http://{}:{}/", port.host, port.world.port()));
    let query = signed.strip_prefix(url).unwrap();
    let stays = reqwest::redirect::Policy::none();
    let browser = reqwest::Client::builder().redirect(stays).build().unwrap();
    let page = format!("http://{}/page{query}&x=1", port.world.address);
    let opened = send(browser.get(page).header("host", &port.host)).await;
    assert_eq!(
        (opened.status, &opened.headers["location"]),
        (303, &HeaderValue::from_static("/page?x=1"))
    );
    let set = opened.headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=3"] {
        assert!(set.contains(attribute), "{set}");
    }
    assert!(!set.contains("Domain"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let with = |method: &str, headers: &[(&str, &str)]| {
        let asked = port
            .bare(method, "/")
            .header("cookie", format!("x=1; {cookie}"));
        headers
            .iter()
            .fold(asked, |asked, (name, value)| asked.header(*name, *value))
    };
    let own = format!("http://{}", port.host);
    let allowed: [&[(&str, &str)]; 4] = [
        &[],
        &[("origin", &own)],
        &[("sec-fetch-site", "same-origin")],
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ],
    ];
    for headers in allowed {
        let said = send(with("GET", headers)).await;
        assert_eq!(said.status, 200, "{headers:?}");
        assert_eq!(said.json()["headers"]["cookie"], "x=1");
    }
    let refused: [&[(&str, &str)]; 3] = [
        &[("origin", "http://3000-other.localhost")],
        &[("sec-fetch-site", "same-site")],
        &[
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "iframe"),
        ],
    ];
    for headers in refused {
        assert_eq!(status(with("GET", headers)).await, 403, "{headers:?}");
        assert_eq!(status(with("POST", headers)).await, 403, "{headers:?}");
    }
    // Good for this port of this sandbox only, and for no route of ours.
    let elsewhere = port.host.replacen(&port.port.to_string(), "1", 1);
    assert_eq!(
        status(port.at(&elsewhere, "GET", "/").header("cookie", &cookie)).await,
        401
    );
    assert_eq!(
        status(port.at(&elsewhere, "GET", &format!("/{query}"))).await,
        401
    );
    let route = port
        .world
        .bare("GET", "/v1/sandboxes")
        .header("cookie", &cookie);
    assert_eq!(status(route).await, 401);
    let (until, tag) = query.split_once('=').unwrap().1.split_once('.').unwrap();
    let longer: u64 = until.parse::<u64>().unwrap() + 1;
    for forged in [
        format!("/?skerry_access={longer}.{tag}"),
        format!("/?skerry_access=1.{tag}"),
        "/?skerry_access=".into(),
    ] {
        assert_eq!(status(port.bare("GET", &forged)).await, 401, "{forged}");
    }
    let too_long = port.world.get(&format!("{at}?ttl_seconds=604801")).await;
    assert_eq!(too_long.status, 400);
}

#[tokio::test]
async fn public_ports_need_no_key_and_a_fork_has_them_too() {
    let port = Site::new(json!({"public_ports": true})).await;
    let record = port.world.get(&port.path).await.json();
    assert_eq!(record["public_ports"], true);
    assert_eq!(status(port.bare("GET", "/")).await, 200);
    let elsewhere = port
        .bare("POST", "/")
        .header("origin", "http://elsewhere.example");
    assert_eq!(status(elsewhere).await, 200);
    let child = port
        .world
        .post(&format!("{}/fork", port.path), json!({}))
        .await;
    assert_eq!(child.json()["public_ports"], true);
}

#[tokio::test]
async fn visitors_are_counted_and_use_up_nothing_else() {
    let world = World::new().await;
    let port = program().await;
    let order = world
        .bare("POST", "/v1/sandboxes")
        .bearer_auth(&world.limited);
    let made = send(order.json(&json!({"public_ports": true})))
        .await
        .json();
    let id: SandboxId = made["sandbox_id"].as_str().unwrap().parse().unwrap();
    let host = format!("{port}-{}.localhost", id.label());
    let visit = async || status(world.bare("GET", "/").header("host", &host)).await;
    for _ in 0..30 {
        assert_eq!(visit().await, 200);
    }
    assert_eq!(visit().await, 429);
    let read = world
        .bare("GET", "/v1/sandboxes")
        .bearer_auth(&world.limited);
    assert_eq!(status(read).await, 200);
}

#[tokio::test]
async fn a_record_says_where_ports_are_published_until_the_sandbox_ends() {
    let world = World::new().await;
    let order = json!({"ports": [3000, 5432]});
    let made = world.post("/v1/sandboxes", order).await.json();
    assert_eq!(
        made["published"],
        json!([
            {"port": 3000, "host_port": 8000, "url": "http://127.0.0.1:8000"},
            {"port": 5432, "host_port": 8001, "url": "http://127.0.0.1:8001"},
        ])
    );
    let path = format!("/v1/sandboxes/{}", made["sandbox_id"].as_str().unwrap());
    assert_eq!(
        world.get(&path).await.json()["published"],
        made["published"]
    );
    assert_eq!(
        world.post(&format!("{path}/stop"), json!({})).await.status,
        202
    );
    let ended = world.get(&format!("{path}/wait?until=ended")).await.json();
    assert_eq!(ended["published"], json!([]));
}
