//! Live output: as it comes, from any point, whole, over server-sent events and WebSockets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use skerry_types::{ExecEnd, ExecId};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::world::World;

/// Server-sent events of one response, one after another.
struct Reader {
    response: reqwest::Response,
    unread: Vec<u8>,
}

struct Frame {
    id: Option<u64>,
    data: Value,
}

impl Reader {
    async fn open(world: &World, path: &str, after: Option<u64>) -> Self {
        let request = world.request("GET", path);
        let request = match after {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            unread: Vec::new(),
        }
    }

    /// `None`: the stream is over.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.unread.drain(..at + 2).collect();
                let frame = String::from_utf8(frame).unwrap();
                let field = |name: &str| {
                    let mut lines = frame.lines();
                    lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
                };
                let (id, data) = (field("id: "), field("data: "));
                if let Some(data) = data {
                    let id = id.map(|id| id.parse().unwrap());
                    return Some(Frame {
                        id,
                        data: serde_json::from_str(&data).unwrap(),
                    });
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.unread.extend_from_slice(&chunk);
        }
    }
}

fn bytes_of(event: &Value) -> Vec<u8> {
    match event["data_base64"].as_str() {
        Some(coded) => STANDARD.decode(coded).unwrap(),
        None => event["data"].as_str().unwrap_or_default().into(),
    }
}

async fn held(world: &World) -> (String, String, ExecId) {
    let s = world.sandbox().await;
    let exec = world.start(&s, "hold").await;
    let id = exec.parse().unwrap();
    (s, exec, id)
}

#[tokio::test]
async fn output_is_there_before_the_end_and_the_stream_ends_with_it() {
    let world = World::new().await;
    let (s, exec, id) = held(&world).await;
    let mut reader = Reader::open(&world, &format!("{s}/exec/{exec}/stream"), None).await;
    world.node.writes(id, b"first");
    let frame = reader.next().await.unwrap();
    assert_eq!((frame.id, &frame.data["data"]), (Some(1), &json!("first")));
    world.node.ends(id, ExecEnd::Exited { code: 3 });
    let exit = reader.next().await.unwrap();
    assert_eq!(
        (exit.id, &exit.data["t"], &exit.data["code"]),
        (Some(2), &json!("exit"), &json!(3))
    );
    assert_eq!(exit.data["end"], json!({"kind": "exited", "code": 3}));
    assert!(exit.data["resource_usage"]["cpu_ms"].is_u64());
    let event: skerry_api::StreamEvent = serde_json::from_value(exit.data).unwrap();
    assert_eq!(event.duration_ms, Some(1));
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn a_cut_stream_goes_on_where_it_was_cut() {
    let world = World::new().await;
    let chunks: Vec<Bytes> = (0..500)
        .map(|at| Bytes::from(format!("{at} \u{1F600}\n")))
        .collect();
    let whole = chunks.concat();
    world
        .node
        .script("count", chunks, Some(ExecEnd::Exited { code: 0 }));
    let s = world.sandbox().await;
    let exec = world.start(&s, "count").await;
    let path = format!("{s}/exec/{exec}/stream");
    let (mut back, mut last, mut ended) = (Vec::new(), 0, false);
    for cut in 1.. {
        let mut reader = Reader::open(&world, &path, Some(last)).await;
        for _ in 0..cut {
            let Some(frame) = reader.next().await else {
                break;
            };
            assert_eq!(frame.id, Some(last + 1), "no gap and no repeat");
            last += 1;
            back.extend(bytes_of(&frame.data));
            ended |= frame.data["t"] == "exit";
        }
        if ended {
            break;
        }
    }
    assert!(back == whole);
    assert_eq!(last, 501);
    // After the end there is nothing, and the stream says so by ending.
    assert!(
        Reader::open(&world, &path, Some(501))
            .await
            .next()
            .await
            .is_none()
    );
    let after = Reader::open(&world, &format!("{path}?after=500"), None)
        .await
        .next()
        .await;
    assert_eq!(after.unwrap().id, Some(501));
}

#[tokio::test]
async fn characters_cut_in_two_and_bytes_that_are_none_come_back() {
    let world = World::new().await;
    let (s, exec, id) = held(&world).await;
    let all = [
        b"a\xe4\xbd".as_slice(),
        b"\xa0b",
        b"\xff\x00",
        "\u{2028}\"\\\u{1}\n".as_bytes(),
    ];
    for chunk in all {
        world.node.writes(id, chunk);
    }
    world.node.ends(id, ExecEnd::Signaled { signal: 9 });
    let mut reader = Reader::open(&world, &format!("{s}/exec/{exec}/stream"), None).await;
    let mut back = Vec::new();
    while let Some(frame) = reader.next().await {
        assert_eq!(
            frame.data["data_base64"].is_string(),
            frame.data["encoding"] == "base64"
        );
        back.extend(bytes_of(&frame.data));
    }
    assert_eq!(back, all.concat());
}

#[tokio::test]
async fn a_session_and_a_record_are_followed_too() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let opened = world.post(&format!("{s}/sessions"), json!({})).await.json();
    let session = format!("{s}/sessions/{}", opened["session_id"].as_str().unwrap());
    let mut reader = Reader::open(&world, &format!("{session}/stream"), None).await;
    let input = world
        .post(&format!("{session}/input"), json!({"data_base64": "aGk="}))
        .await;
    assert_eq!(input.status, 204);
    let frame = reader.next().await.unwrap();
    assert_eq!((frame.id, &frame.data["data"]), (Some(1), &json!("hi")));
    assert!(frame.data["exec_id"].as_str().unwrap().starts_with("ex_"));

    let mut record = Reader::open(&world, &format!("{s}/stream"), None).await;
    assert_eq!(record.next().await.unwrap().data["type"], "sandbox.created");
    world
        .node
        .happens(s.rsplit('/').next().unwrap().parse().unwrap(), "later");
    let later = record.next().await.unwrap();
    assert_eq!((later.id, &later.data["type"]), (Some(2), &json!("later")));
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn socket(world: &World, path: &str) -> Socket {
    let url = format!("ws://{}{path}", world.address);
    let mut request = url.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("x-api-key", world.key.parse().unwrap());
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// The next message that is not a sign of life.
async fn next(socket: &mut Socket) -> Message {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

async fn next_json(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

#[tokio::test]
async fn a_websocket_has_the_events_and_takes_input() {
    let world = World::new().await;
    let (s, exec, _) = held(&world).await;
    let mut socket = socket(&world, &format!("{s}/exec/{exec}/ws")).await;
    let say = |value: Value| Message::text(value.to_string());
    socket
        .send(say(json!({"t": "stdin", "data": "one"})))
        .await
        .unwrap();
    assert_eq!(
        next_json(&mut socket).await,
        json!({"seq": 1, "t": "stdout", "data": "one"})
    );
    socket.send(say(json!({"t": "dance"}))).await.unwrap();
    let complaint = next_json(&mut socket).await;
    assert_eq!(
        (&complaint["t"], &complaint["code"]),
        (&json!("error"), &json!("validation_error"))
    );
    socket
        .send(say(json!({"t": "signal", "signal": "SIGTERM"})))
        .await
        .unwrap();
    let exit = next_json(&mut socket).await;
    assert_eq!(
        (&exit["t"], &exit["code"], &exit["seq"]),
        (&json!("exit"), &json!(143), &json!(2))
    );
    assert!(
        matches!(next(&mut socket).await, Message::Close(Some(frame)) if u16::from(frame.code) == 1000)
    );
}

#[tokio::test]
async fn a_client_that_talks_on_after_the_end_loses_nothing() {
    let world = World::new().await;
    let chunks = vec![Bytes::from(vec![b'x'; 1024]); 512];
    world
        .node
        .script("much", chunks, Some(ExecEnd::Exited { code: 0 }));
    let s = world.sandbox().await;
    let exec = world.start(&s, "much").await;
    let mut socket = socket(&world, &format!("{s}/exec/{exec}/ws")).await;
    for _ in 0..2000 {
        socket.send(Message::Ping(Bytes::new())).await.unwrap();
    }
    for seq in 1..=512 {
        assert_eq!(next_json(&mut socket).await["seq"], seq);
    }
    assert_eq!(next_json(&mut socket).await["t"], "exit");
    assert!(matches!(next(&mut socket).await, Message::Close(Some(_))));
    assert!(socket.next().await.is_none(), "and closed as it should be");
}

#[tokio::test]
async fn a_farewell_is_answered() {
    let world = World::new().await;
    let (s, exec, _) = held(&world).await;
    let mut socket = socket(&world, &format!("{s}/exec/{exec}/ws")).await;
    socket.close(None).await.unwrap();
    assert!(matches!(next(&mut socket).await, Message::Close(_)));
    assert!(socket.next().await.is_none());
}

#[tokio::test]
async fn a_terminal_outlives_its_socket() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let opened = world
        .post(&format!("{s}/pty"), json!({"cmd": "hold"}))
        .await
        .json();
    assert_eq!(opened["tty"], true);
    let path = format!("{s}/pty/{}", opened["exec_id"].as_str().unwrap());
    let mut first = socket(&world, &format!("{path}/ws")).await;
    let raw = Bytes::from_static(b"\xff\x00raw");
    first.send(Message::Binary(raw.clone())).await.unwrap();
    assert_eq!(next(&mut first).await, Message::Binary(raw));
    assert_eq!(
        next_json(&mut first).await,
        json!({"t": "position", "seq": 1})
    );
    drop(first);

    let resized = world
        .post(&format!("{path}/resize"), json!({"cols": 100, "rows": 30}))
        .await;
    assert_eq!(resized.status, 204);
    let mut second = socket(&world, &format!("{path}/ws?after=1")).await;
    assert_eq!(next(&mut second).await, Message::binary("100x30"));
    assert_eq!(next_json(&mut second).await["seq"], 2);
    let closed = crate::world::send(world.request("DELETE", &path))
        .await
        .json();
    assert_eq!(closed["end"], json!({"kind": "signaled", "signal": 1}));
    assert_eq!(next_json(&mut second).await["t"], "exit");

    let plain = world.start(&s, "hold").await;
    let refused = crate::world::send(world.request("DELETE", &format!("{s}/pty/{plain}"))).await;
    assert_eq!((refused.status, refused.code()), (409, "conflict".into()));
}

#[tokio::test]
async fn a_reader_that_never_reads_holds_up_nobody() {
    let world = World::new().await;
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let count = 64 * 1024 * 1024 / chunk.len();
    world.node.script(
        "flood",
        vec![chunk; count],
        Some(ExecEnd::Exited { code: 0 }),
    );
    let s = world.sandbox().await;
    let exec = world.start(&s, "flood").await;
    let path = format!("{s}/exec/{exec}/stream");
    let _lazy = Reader::open(&world, &path, None).await;
    let mut reader = Reader::open(&world, &path, None).await;
    let mut total = 0;
    while let Some(frame) = reader.next().await {
        total += bytes_of(&frame.data).len();
    }
    assert_eq!(total, 64 * 1024 * 1024);
}
