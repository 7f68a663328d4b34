//! Processes.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::world::{Events, Island, World, enveloped};

const START: &str = "process.Process/Start";

fn shell(script: &str) -> Value {
    json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] }, "stdin": false })
}

/// A body of which nothing comes after these bytes, not even its end.
fn endless(bytes: &'static [u8]) -> Body {
    let begin = stream::iter([Ok::<_, Infallible>(Bytes::from_static(bytes))]);
    Body::from_stream(begin.chain(stream::pending()))
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The process that a stream began with.
async fn pid(events: &mut Events) -> Value {
    let start = events.event().await;
    json!({ "pid": start["event"]["start"]["pid"].as_u64().unwrap() })
}

async fn ended(sandbox: &Island, script: &str) -> (Vec<Value>, Value) {
    sandbox.open(START, &shell(script), &[]).await.rest().await
}

#[tokio::test]
async fn a_command_is_told_to_the_byte() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let request = sandbox.request("POST", "/process.Process/Start");
    let request = request.header("content-type", "application/connect+json");
    let answer = sandbox
        .send(request.body(enveloped(&[&shell("echo hi")])).unwrap())
        .await;
    assert_eq!(answer.header("content-type"), "application/connect+json");
    let (start, rest) = answer.body.split_at(5 + answer.body[4] as usize);
    let start: Value = serde_json::from_slice(&start[5..]).unwrap();
    assert!(start["event"]["start"]["pid"].is_u64(), "{start}");
    let wanted = [
        &b"\0\0\0\0\x24"[..],
        br#"{"event":{"data":{"stdout":"aGkK"}}}"#,
        b"\0\0\0\0\x47",
        br#"{"event":{"end":{"exitCode":0,"exited":true,"status":"exit status 0"}}}"#,
        b"\x02\0\0\0\x02{}",
    ];
    assert_eq!(
        rest.escape_ascii().to_string(),
        wanted.concat().escape_ascii().to_string()
    );
}

#[tokio::test]
async fn ends_are_told_in_the_words_that_clients_know() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let (events, end) = ended(&sandbox, "exit 3").await;
    let wanted = json!({
        "exitCode": 3, "exited": true, "status": "exit status 3", "error": "exit status 3"
    });
    assert_eq!((&events[1]["event"]["end"], &end), (&wanted, &json!({})));

    let mut running = sandbox.open(START, &shell("sleep 1000"), &[]).await;
    let process = pid(&mut running).await;
    let kill = json!({ "process": process, "signal": "SIGNAL_SIGKILL" });
    let killed = sandbox
        .call("process.Process/SendSignal", kill.clone())
        .await;
    assert_eq!((killed.status, killed.json()), (StatusCode::OK, json!({})));
    let (events, _) = running.rest().await;
    let wanted = json!({
        "exitCode": -1, "exited": false, "status": "signal: killed", "error": "signal: killed"
    });
    assert_eq!(events[0]["event"]["end"], wanted);
    let again = sandbox.call("process.Process/SendSignal", kill).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert_eq!(again.json()["code"], "not_found");

    let call = json!({ "process": { "cmd": "no-such-program" } });
    let (events, end) = sandbox.open(START, &call, &[]).await.rest().await;
    assert_eq!(
        (events.len(), &end["error"]["code"]),
        (0, &json!("invalid_argument"))
    );
}

#[tokio::test]
async fn a_process_outlives_its_client_and_is_found_again() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut call = shell("echo before; cat");
    call["stdin"] = json!(true);
    call["tag"] = json!("mine");
    let mut first = sandbox.open(START, &call, &[]).await;
    let process = pid(&mut first).await;
    first.event().await;
    drop(first);

    let list = sandbox.call("process.Process/List", json!({})).await.json();
    let wanted = json!({ "processes": [{
        "pid": process["pid"],
        "tag": "mine",
        "config": { "cmd": "/bin/sh", "args": ["-c", "echo before; cat"], "envs": {} },
    }] });
    assert_eq!(list, wanted);

    let tag = json!({ "process": { "tag": "mine" } });
    let mut second = sandbox.open("process.Process/Connect", &tag, &[]).await;
    assert_eq!(pid(&mut second).await, process);
    let input = json!({ "process": process, "input": { "stdin": base64("typed") } });
    let fed = sandbox.call("process.Process/SendInput", input).await;
    assert_eq!((fed.status, fed.json()), (StatusCode::OK, json!({})));
    let heard = json!({ "event": { "data": { "stdout": base64("typed") } } });
    assert_eq!(second.event().await, heard, "and not what came before");

    let messages = [
        &json!({ "start": tag }),
        &json!({ "keepalive": {} }),
        &json!({ "data": { "input": { "stdin": base64(" more") } } }),
    ];
    let stream = sandbox.request("POST", "/process.Process/StreamInput");
    let stream = stream.header("content-type", "application/connect+json");
    let streamed = sandbox
        .send(stream.body(enveloped(&messages)).unwrap())
        .await;
    assert_eq!(&streamed.body[..], b"\0\0\0\0\x02{}\x02\0\0\0\x02{}");
    let heard = json!({ "event": { "data": { "stdout": base64(" more") } } });
    assert_eq!(second.event().await, heard);

    let closed = sandbox
        .call("process.Process/CloseStdin", tag.clone())
        .await;
    assert_eq!(closed.status, StatusCode::OK);
    let (events, end) = second.rest().await;
    assert_eq!(
        (&events[0]["event"]["end"]["exitCode"], &end),
        (&json!(0), &json!({}))
    );

    let late = sandbox.open("process.Process/Connect", &tag, &[]).await;
    let (events, end) = late.rest().await;
    assert_eq!(events.len(), 2, "its start and its end: {events:?}");
    assert_eq!(
        (&events[1]["event"]["end"]["exitCode"], &end),
        (&json!(0), &json!({}))
    );
    let list = sandbox.call("process.Process/List", json!({})).await.json();
    assert_eq!(list, json!({ "processes": [] }));
}

#[tokio::test]
async fn input_that_a_process_did_not_live_to_take_finds_no_process() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut call = shell("sleep 1000");
    call["stdin"] = json!(true);
    let mut events = sandbox.open(START, &call, &[]).await;
    let process = pid(&mut events).await;
    let input = json!({ "process": process, "input": { "stdin": base64("never read") } });
    let kill = json!({ "process": process, "signal": "SIGNAL_SIGKILL" });
    let (fed, closed, killed) = tokio::join!(
        sandbox.call("process.Process/SendInput", input),
        sandbox.call("process.Process/CloseStdin", json!({ "process": process })),
        sandbox.call("process.Process/SendSignal", kill),
    );
    assert_eq!(killed.status, StatusCode::OK);
    for answer in [fed, closed] {
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["code"], "not_found");
    }
}

#[tokio::test]
async fn a_terminal_has_a_stream_and_a_size_of_its_own() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut call = shell("stty size; cat");
    call["pty"] = json!({ "size": { "cols": 91, "rows": 17 } });
    let mut events = sandbox.open(START, &call, &[]).await;
    let process = pid(&mut events).await;
    let heard = json!({ "event": { "data": { "pty": base64("17 91\r\n") } } });
    assert_eq!(events.event().await, heard);
    let resize = json!({ "process": process, "pty": { "size": { "cols": 80, "rows": 24 } } });
    let resized = sandbox.call("process.Process/Update", resize).await;
    assert_eq!(
        (resized.status, resized.json()),
        (StatusCode::OK, json!({}))
    );
    let wrong = json!({ "process": process, "input": { "stdin": base64("x") } });
    let refused = sandbox.call("process.Process/SendInput", wrong).await;
    assert_eq!(refused.json()["code"], "failed_precondition");
    let typed = json!({ "process": process, "input": { "pty": base64("x") } });
    let taken = sandbox.call("process.Process/SendInput", typed).await;
    assert_eq!(taken.status, StatusCode::OK);
}

#[tokio::test]
async fn the_time_of_a_call_is_the_time_of_its_process() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let headers = [("connect-timeout-ms", "30")];
    let mut started = sandbox.open(START, &shell("sleep 1000"), &headers).await;
    let process = pid(&mut started).await;
    let (_, end) = started.rest().await;
    assert_eq!(end["error"]["code"], "deadline_exceeded");
    let which = json!({ "process": process });
    let (_, end) = sandbox
        .open("process.Process/Connect", &which, &[])
        .await
        .rest()
        .await;
    assert_eq!(
        end["error"]["code"], "deadline_exceeded",
        "it has ended, too"
    );
}

#[tokio::test]
async fn silence_is_broken_by_signs_of_life() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let headers = [("keepalive-ping-interval", "1")];
    let mut events = sandbox.open(START, &shell("sleep 1000"), &headers).await;
    pid(&mut events).await;
    assert_eq!(
        events.event().await,
        json!({ "event": { "keepalive": {} } })
    );
}

#[tokio::test]
async fn what_is_no_message_is_told_where_clients_look() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let whole = shell("true");
    let invalid = "invalid_argument";
    let bodies = [
        (Body::empty(), invalid),
        (Body::from(&b"\0\0\0\0"[..]), invalid),
        (Body::from(&b"\0\0\0\0\x09{}"[..]), invalid),
        (Body::from(&b"\x01\0\0\0\x02{}"[..]), invalid),
        (Body::from(&b"\0\0\0\0\x02{]"[..]), invalid),
        (enveloped(&[&whole, &whole]), invalid),
        (endless(b"\0\x7f\xff\xff\xff{}"), "resource_exhausted"),
    ];
    for (at, (body, wanted)) in bodies.into_iter().enumerate() {
        let request = sandbox.request("POST", "/process.Process/Start");
        let request = request.header("content-type", "application/connect+json");
        let answer = sandbox.send(request.body(body).unwrap()).await;
        let seen = (answer.status, answer.body[0]);
        assert_eq!(seen, (StatusCode::OK, 2), "body {at}");
        let end: Value = serde_json::from_slice(&answer.body[5..]).unwrap();
        assert_eq!(end["error"]["code"], wanted, "body {at}");
    }
    for (kind, body) in [("application/json", "{}"), ("application/proto", "")] {
        let request = sandbox.request("POST", "/process.Process/Start");
        let request = request.header("content-type", kind);
        let answer = sandbox.send(request.body(body.into()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let unknown = json!({ "process": { "pid": 999_999 } });
    let (_, end) = sandbox
        .open("process.Process/Connect", &unknown, &[])
        .await
        .rest()
        .await;
    assert_eq!(end["error"]["code"], "not_found");
    let request = sandbox.request("POST", "/process.Process/SendSignal");
    let request = request.header("content-type", "application/json");
    let answer = sandbox.send(request.body("{".into()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["code"], "invalid_argument");
}
