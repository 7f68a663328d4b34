//! Input that cannot be: the one envelope, the right code, the field by name, and nothing changed.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use reqwest::multipart::Form;
use serde_json::{Value, json};
use skerry_http::Settings;
use skerry_types::ExecEnd;

use crate::world::{World, send};

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let exec = format!("{s}/exec");
    let timeout = format!("{s}/timeout");
    let egress = format!("{s}/egress");
    let cases: [(&str, &str, Value, &str, &str); 34] = [
        (
            "POST",
            "/v1/sandboxes",
            json!({"imgae": "base"}),
            "validation_error",
            "imgae",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"env": {"A": 1}}),
            "validation_error",
            "env.A",
        ),
        (
            "POST",
            "/v1/images/pull",
            json!({"reference": "a/b", "login": {"username": "a:b", "password": "c"}}),
            "validation_error",
            "login.username",
        ),
        (
            "POST",
            "/v1/images/pull",
            json!({"reference": "a/b", "login": {"username": "me", "password": ""}}),
            "validation_error",
            "login.password",
        ),
        (
            "POST",
            "/v1/images/pull",
            json!({"reference": "a/b", "login": {"username": "me"}}),
            "validation_error",
            "password",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"network": "nat", "egress": {"allow": ["https://a.b"]}}),
            "validation_error",
            "egress.allow: `https://a.b`",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"network": "none", "egress": {"allow": ["a.b"]}}),
            "validation_error",
            "egress",
        ),
        (
            "PUT",
            &egress,
            json!({"deny": ["a.b"]}),
            "validation_error",
            "egress.deny: `a.b`",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"vcpus": -1}),
            "validation_error",
            "vcpus",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"vcpus": 1000}),
            "validation_error",
            "vcpus",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"image": "base", "template": "base"}),
            "validation_error",
            "template",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"image": "nothing"}),
            "validation_error",
            "nothing",
        ),
        (
            "POST",
            "/v1/sandboxes?wait=301",
            json!({}),
            "validation_error",
            "wait",
        ),
        (
            "POST",
            "/v1/sandboxes?wiat=1",
            json!({}),
            "validation_error",
            "wiat",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"region": "mars"}),
            "validation_error",
            "there is: local",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"ports": [0]}),
            "validation_error",
            "ports",
        ),
        (
            "POST",
            "/v1/sandboxes",
            json!({"name": "a", "alias": "a"}),
            "validation_error",
            "name",
        ),
        (
            "POST",
            &timeout,
            json!({}),
            "validation_error",
            "at least one",
        ),
        (
            "POST",
            &timeout,
            json!({"idle_seconds": -1}),
            "validation_error",
            "idle_seconds",
        ),
        (
            "GET",
            "/v1/sandboxes?metadata=x",
            json!({}),
            "validation_error",
            "metadata",
        ),
        (
            "GET",
            "/v1/sandboxes?limit=few",
            json!({}),
            "validation_error",
            "limit: must be a whole number",
        ),
        (
            "POST",
            &exec,
            json!({"cmd": 5}),
            "validation_error",
            "cmd: must be a text for the shell",
        ),
        ("POST", &exec, json!({}), "validation_error", "cmd"),
        ("POST", &exec, json!({"cmd": []}), "validation_error", "cmd"),
        (
            "POST",
            &exec,
            json!({"cmd": "x", "timeout_seconds": 301}),
            "validation_error",
            "timeout_seconds",
        ),
        (
            "POST",
            &exec,
            json!({"cmd": "x", "timeout_seconds": 7201, "wait": false}),
            "validation_error",
            "timeout_seconds",
        ),
        (
            "POST",
            &exec,
            json!({"cmd": "x", "timeout_seconds": 0}),
            "validation_error",
            "timeout_seconds",
        ),
        (
            "POST",
            &exec,
            json!({"cmd": "x", "cwd": "relative"}),
            "validation_error",
            "cwd",
        ),
        (
            "POST",
            &exec,
            json!({"cmd": "x", "env": {"A=B": "secret"}}),
            "validation_error",
            "env.A=B",
        ),
        (
            "POST",
            &exec,
            json!({"cmd": "x".repeat(200_000)}),
            "validation_error",
            "cmd",
        ),
        (
            "GET",
            "/v1/sandboxes?limit=0",
            json!({}),
            "validation_error",
            "limit",
        ),
        (
            "GET",
            "/v1/sandboxes?limit=many",
            json!({}),
            "validation_error",
            "limit",
        ),
        (
            "GET",
            "/v1/sandboxes?status=fine",
            json!({}),
            "validation_error",
            "status",
        ),
        (
            "GET",
            "/v1/sandboxes?cursor=x",
            json!({}),
            "bad_request",
            "cursor",
        ),
    ];
    for (method, path, body, code, field) in cases {
        let request = world.request(method, path);
        let request = if method == "GET" {
            request
        } else {
            request.json(&body)
        };
        let answer = send(request).await;
        assert_eq!(answer.code(), code, "{path} {body}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(field),
            "{path}: `{message}` does not name {field}"
        );
        assert!(!message.contains("secret"), "values of env may be secrets");
    }
    let execs = world.get(&format!("{s}/execs")).await.json();
    assert_eq!(execs["execs"], json!([]), "nothing ran");
    let list = world.get("/v1/sandboxes").await.json();
    assert_eq!(
        list["sandboxes"].as_array().unwrap().len(),
        1,
        "nothing was made"
    );
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_read_back() {
    let world = World::new().await;
    for login in [
        json!("me:hunter2"),
        json!({"username": "me", "password": ["hunter2"]}),
        json!({"username": "me", "password": {"hunter2": 1}}),
        json!({"username": "me:hunter2", "password": "hunter2"}),
    ] {
        let body = json!({"reference": "a/b", "login": login});
        let refused = world.post("/v1/images/pull", body).await;
        let text = String::from_utf8(refused.body.to_vec()).unwrap();
        assert_eq!(refused.status, 400, "{text}");
        assert!(text.contains("login"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn every_kind_of_failure_has_the_envelope() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let json_type = ("content-type", "application/json");
    let post = |path: &str, body: Vec<u8>| {
        world
            .request("POST", path)
            .header(json_type.0, json_type.1)
            .body(body)
    };
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(2_000_000)).into_bytes();
    let cases = [
        (world.request("GET", "/v1/nothing"), 404, "not_found"),
        (world.request("GET", "/nothing"), 404, "not_found"),
        (
            world.request("PATCH", "/v1/sandboxes"),
            405,
            "method_not_allowed",
        ),
        (
            world.request("GET", "/v1/sandboxes/sb_short"),
            404,
            "not_found",
        ),
        (
            world.request("GET", &s.replace("sb_", "ex_")),
            404,
            "not_found",
        ),
        (
            world.request("GET", &format!("{s}/exec/{}", &s[14..])),
            404,
            "not_found",
        ),
        (post("/v1/sandboxes", b"{".to_vec()), 400, "bad_request"),
        (post("/v1/sandboxes", b"{} {}".to_vec()), 400, "bad_request"),
        (post("/v1/sandboxes", vec![0xff, 0xfe]), 400, "bad_request"),
        (
            post("/v1/sandboxes", b"[]".to_vec()),
            400,
            "validation_error",
        ),
        (post("/v1/sandboxes", deep), 400, "validation_error"),
        (post("/v1/sandboxes", large), 413, "too_large"),
        (
            world.request("GET", &format!("{s}/files")),
            400,
            "validation_error",
        ),
        (
            world.request("GET", &format!("{s}/files?path=a")),
            400,
            "validation_error",
        ),
        (
            world.request("GET", &format!("{s}/files?path=/%00")),
            400,
            "validation_error",
        ),
        (
            world.request("GET", &format!("{s}/files?path=/nothing")),
            404,
            "not_found",
        ),
        (
            world.request("DELETE", &format!("{s}/files?path=/../.")),
            400,
            "validation_error",
        ),
        (
            world.request("GET", &format!("{s}/stream?after=x")),
            400,
            "validation_error",
        ),
        (
            world
                .request("GET", &format!("{s}/stream"))
                .header("last-event-id", "x"),
            400,
            "validation_error",
        ),
        (
            world.request("POST", &format!("{s}/files/write")).body("x"),
            415,
            "unsupported_media_type",
        ),
        (
            world
                .request("POST", &format!("{s}/files/write"))
                .multipart(Form::new().text("file", "x")),
            400,
            "validation_error",
        ),
    ];
    for (request, status, code) in cases {
        let request = request.build().unwrap();
        let what = format!("{} {}", request.method(), request.url().path());
        let answer = send(reqwest::RequestBuilder::from_parts(
            reqwest::Client::new(),
            request,
        ))
        .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_lives() {
    let world = World::new().await;
    let s = world.sandbox().await;
    world.node.panics.store(true, Ordering::SeqCst);
    let answer = world.get(&format!("{s}/files/stat?path=/a")).await;
    assert_eq!(
        (answer.status, answer.code()),
        (500, "internal_error".into())
    );
    assert_eq!(world.get(&s).await.status, 200);
}

#[tokio::test]
async fn a_sandbox_that_does_not_run_takes_no_work() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let ran = world
        .post(&format!("{s}/exec"), json!({"cmd": "echo hello"}))
        .await
        .json();
    assert_eq!(
        world.post(&format!("{s}/stop"), json!({})).await.status,
        202
    );
    let ended = world.get(&format!("{s}/wait?until=ended")).await.json();
    assert_eq!(ended["status"], "stopped");
    for path in ["exec", "sessions", "pty"] {
        let answer = world
            .post(&format!("{s}/{path}"), json!({"cmd": "x"}))
            .await;
        let answer = if path == "sessions" {
            world.post(&format!("{s}/{path}"), json!({})).await
        } else {
            answer
        };
        assert_eq!(
            (answer.status, answer.code()),
            (409, "sandbox_not_running".into()),
            "{path}"
        );
    }
    assert_eq!(
        world.post(&format!("{s}/stop"), json!({})).await.status,
        200,
        "again"
    );
    let wait = world.get(&format!("{s}/wait")).await;
    assert_eq!(
        (wait.status, wait.code()),
        (409, "sandbox_not_running".into())
    );
    // What it did can still be read, after it was deleted too.
    assert_eq!(
        send(world.request("DELETE", &s)).await.json()["status"],
        "deleted"
    );
    let log = format!("{s}/exec/{}/log", ran["exec_id"].as_str().unwrap());
    assert_eq!(world.get(&log).await.body, "hello\n");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_a_normal_answer() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let answer = world
        .post(&format!("{s}/exec"), json!({"cmd": ["nothing"]}))
        .await;
    let body = answer.json();
    assert_eq!((answer.status, &body["exit_code"]), (200, &json!(127)));
    assert_eq!(body["end"]["kind"], "failed_to_start");
    assert!(body["end"]["reason"].as_str().unwrap().contains("nothing"));
    assert_eq!(body["status"], "failed");
}

#[tokio::test]
async fn an_answer_has_a_megabyte_and_the_log_has_all() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    world.node.script(
        "much",
        vec![chunk.clone(), chunk.clone(), chunk],
        Some(ExecEnd::OomKilled),
    );
    let body = world
        .post(&format!("{s}/exec"), json!({"cmd": "much"}))
        .await
        .json();
    assert_eq!(body["stdout"].as_str().unwrap().len(), 1 << 20);
    assert_eq!(
        (&body["stdout_truncated"], &body["stderr_truncated"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&body["exit_code"], &body["end"]["kind"]),
        (&json!(137), &json!("oom_killed"))
    );
    let log = format!("{s}/exec/{}/log", body["exec_id"].as_str().unwrap());
    assert_eq!(world.get(&log).await.body.len(), 3 << 20);
    let part = world.get(&format!("{log}?offset=1048570&limit=10")).await;
    assert_eq!(part.body, "x".repeat(10));
    let none = world.get(&format!("{log}?stream=stderr")).await;
    assert_eq!(none.body, "");
    let past = world.get(&format!("{log}?offset=3145727")).await;
    assert_eq!(past.body, "x");
}

#[tokio::test]
async fn the_same_key_makes_one_sandbox() {
    let world = World::new().await;
    let once = |body: Value| {
        let request = world
            .request("POST", "/v1/sandboxes")
            .header("idempotency-key", "one");
        send(request.json(&body))
    };
    let (first, second) = tokio::join!(once(json!({"name": "a"})), once(json!({"name": "a"})));
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.json()["sandbox_id"], second.json()["sandbox_id"]);
    let replayed = [&first, &second].map(|answer| answer.header("idempotency-replayed") == "true");
    assert_ne!(replayed[0], replayed[1], "one was done, one was told");
    let other = once(json!({"name": "b"})).await;
    assert_eq!((other.status, other.code()), (409, "conflict".into()));
    let long = world
        .request("POST", "/v1/sandboxes")
        .header("idempotency-key", "k".repeat(256));
    assert_eq!(send(long.json(&json!({}))).await.code(), "validation_error");
    let list = world.get("/v1/sandboxes").await.json();
    assert_eq!(list["sandboxes"].as_array().unwrap().len(), 1);
    // A failure is told, not kept.
    let bad = async || {
        let request = world
            .request("POST", "/v1/sandboxes")
            .header("idempotency-key", "bad");
        send(request.json(&json!({"image": "nothing"}))).await
    };
    assert_eq!(bad().await.code(), "validation_error");
    assert_eq!(bad().await.code(), "validation_error");
}

#[tokio::test]
async fn the_same_key_runs_one_command_whatever_became_of_its_sandbox() {
    let world = World::new().await;
    let s = world.sandbox().await;
    for (key, script) in [
        ("short", "echo done"),
        // Its answer is not kept for the key.
        ("long", "seq 10000"),
    ] {
        let path = format!("{s}/exec");
        let once = async || {
            let request = world.request("POST", &path);
            let request = request.header("idempotency-key", key);
            send(request.json(&json!({"cmd": script}))).await
        };
        let first = once().await;
        assert_eq!(first.status, 200, "{:?}", first.body);
        let second = once().await;
        assert_eq!(second.json(), first.json(), "{key}");
        send(world.request("POST", &format!("{s}/stop"))).await;
        let third = once().await;
        assert_eq!(third.json(), first.json(), "{key}");
        send(world.request("POST", &format!("{s}/start"))).await;
    }
    let all = world.get(&format!("{s}/execs")).await.json();
    assert_eq!(all["execs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn files_come_back_as_they_went() {
    let world = World::new().await;
    let s = world.sandbox().await;
    for size in [0, 1, 65_535, 65_537, 3 << 20] {
        let data: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
        let path = format!("{s}/files?path=/data/%C3%A4%20b");
        let put = send(world.request("PUT", &path).body(data.clone()))
            .await
            .json();
        assert_eq!(
            put,
            json!({"path": "/data/ä b", "bytes_written": size, "batch": false})
        );
        let got = world.get(&path).await;
        assert_eq!(
            got.header("content-disposition"),
            "attachment; filename=\"__b\""
        );
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert!(got.body == data, "{size} bytes");
    }
    let form = Form::new().text("path", "/form").text("file", "content");
    let sent = world
        .request("POST", &format!("{s}/files/write"))
        .multipart(form);
    assert_eq!(send(sent).await.status, 204);
    let read = world
        .post(&format!("{s}/files/read"), json!({"path": "/form"}))
        .await;
    assert_eq!(read.body, "content");
    let said = world.request("PUT", &format!("{s}/files?path=/large"));
    let said = said
        .header("content-length", (6u64 << 30).to_string())
        .body("");
    let _refused_or_reset = said.send().await;
    assert_eq!(
        world.get(&format!("{s}/files?path=/large")).await.status,
        404
    );
}

#[tokio::test]
async fn one_that_has_to_queue_is_told_so_at_once() {
    let world = World::with_slots(Settings::default(), 1).await;
    let first = world.sandbox().await;
    let second = world.post("/v1/sandboxes", json!({})).await;
    let second = (second.status, second.json());
    assert_eq!((second.0, &second.1["status"]), (201, &json!("queued")));
    assert_eq!(second.1["queue_position"], 1);
    let path = format!("/v1/sandboxes/{}", second.1["sandbox_id"].as_str().unwrap());
    let early = world.get(&format!("{path}/wait?timeout_seconds=1")).await;
    assert_eq!(
        (early.status, early.code()),
        (408, "request_timeout".into())
    );
    let exec = world
        .post(&format!("{path}/exec"), json!({"cmd": "echo hello"}))
        .await;
    assert_eq!(
        (exec.status, exec.code()),
        (409, "sandbox_not_running".into())
    );
    assert_eq!(send(world.request("DELETE", &first)).await.status, 200);
    let ready = world.get(&format!("{path}/wait")).await.json();
    assert_eq!(ready["status"], "running");
}

#[tokio::test]
async fn no_body_is_as_good_as_an_empty_one() {
    let world = World::new().await;
    let bare = send(world.request("POST", "/v1/sandboxes")).await;
    assert_eq!(bare.status, 201);
    let typed = world.request("POST", "/v1/sandboxes?wait=0");
    let typed = send(typed.header("content-type", "application/json")).await;
    assert_eq!(typed.status, 201);
}
