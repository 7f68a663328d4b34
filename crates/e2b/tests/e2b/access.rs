//! Who gets into a sandbox, and what they are told who do not.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Island, World, request, send};

/// What needs the token.
const CLOSED: [(&str, &str); 10] = [
    ("GET", "/files?path=/etc/hosts"),
    ("POST", "/files?path=/tmp/a"),
    ("POST", "/files/compose"),
    ("GET", "/envs"),
    ("GET", "/metrics"),
    ("POST", "/process.Process/Start"),
    ("POST", "/process.Process/List"),
    ("POST", "/filesystem.Filesystem/Stat"),
    ("POST", "/filesystem.Filesystem/WatchDir"),
    ("POST", "/no-such-route"),
];

async fn knock(
    world: &World,
    sandbox: &Island,
    token: Option<&str>,
    at: (&str, &str),
) -> (u16, String) {
    let mut request = request(at.0, at.1).header("e2b-sandbox-id", &sandbox.id);
    if let Some(token) = token {
        request = request.header("x-access-token", token);
    }
    let answer = send(&world.front, request.body(Body::empty()).unwrap()).await;
    (
        answer.status.as_u16(),
        String::from_utf8_lossy(&answer.body).into_owned(),
    )
}

#[tokio::test]
async fn who_may_only_look_is_given_no_token() {
    let world = World::new().await;
    let new = json!({"templateID": "base"});
    let made = world.ask(Some(&world.other), "POST", "/v2/sandboxes", new);
    let made = made.await.json();
    assert!(made["envdAccessToken"].is_string());
    let path = format!("/sandboxes/{}", made["sandboxID"].as_str().unwrap());
    for (key, has_token) in [(&world.other, true), (&world.viewer, false)] {
        let seen = world.ask(Some(key), "GET", &path, Value::Null).await.json();
        assert_eq!(seen["sandboxID"], made["sandboxID"]);
        assert_eq!(seen["envdAccessToken"].is_string(), has_token);
    }
}

#[tokio::test]
async fn only_the_token_of_the_sandbox_opens_it() {
    let world = World::new().await;
    let (sandbox, other) = (world.sandbox().await, world.sandbox().await);
    let refusal = r#"{"code":401,"message":"unauthorized access, please provide a valid access token or method signing if supported"}"#;
    let altered = sandbox.token.replace(|c: char| c.is_ascii_digit(), "0");
    for at in CLOSED {
        for token in [
            None,
            Some("nonsense"),
            Some(other.token.as_str()),
            Some(&altered),
        ] {
            let answer = knock(&world, &sandbox, token, at).await;
            assert_eq!(answer, (401, refusal.to_owned()), "{at:?} with {token:?}");
        }
        let opened = knock(&world, &sandbox, Some(&sandbox.token), at).await;
        assert_ne!(opened.0, 401, "{at:?}");
    }
    let well = knock(&world, &sandbox, None, ("GET", "/health")).await;
    assert_eq!(well, (204, String::new()));
    for internal in ["/init", "/freeze", "/upgrade"] {
        let answer = knock(&world, &sandbox, Some(&sandbox.token), ("POST", internal)).await;
        assert_eq!(answer.0, 404, "{internal}");
    }
}

#[tokio::test]
async fn pages_of_any_site_may_ask_with_the_token() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let from =
        |method: &str, path: &str| request(method, path).header("origin", "https://example.org");
    for (method, path) in CLOSED {
        // What a browser asks first names no sandbox where that is said in a header.
        if path.starts_with("/files") || path.contains('.') {
            let ask = from("OPTIONS", path)
                .header("access-control-request-method", method)
                .header(
                    "access-control-request-headers",
                    "authorization,x-access-token",
                );
            let allowed = send(&world.front, ask.body(Body::empty()).unwrap()).await;
            assert_eq!(allowed.status, StatusCode::OK, "{path}");
            assert_eq!(
                allowed.header("access-control-allow-headers"),
                "authorization,x-access-token"
            );
        }
        // It shows a page neither an answer nor a refusal that does not say this.
        let bare = from(method, path).header("e2b-sandbox-id", &sandbox.id);
        let refused = send(&world.front, bare.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn a_sandbox_that_does_not_run_is_not_found() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let paused = world
        .api(
            "POST",
            &format!("/sandboxes/{}/pause", sandbox.id),
            json!({}),
        )
        .await;
    assert_eq!(paused.status, StatusCode::NO_CONTENT, "{:?}", paused.body);
    let id = &sandbox.id;
    let told =
        format!(r#"{{"sandboxId":"{id}","message":"The sandbox was not found","code":502}}"#);
    let is_told = async || {
        for at in CLOSED.into_iter().chain([("GET", "/health")]) {
            let answer = knock(&world, &sandbox, Some(&sandbox.token), at).await;
            let (status, body): (u16, serde_json::Value) =
                (answer.0, serde_json::from_str(&answer.1).unwrap());
            assert_eq!(
                (status, body),
                (502, serde_json::from_str(&told).unwrap()),
                "{at:?}"
            );
        }
    };
    is_told().await;
    let deleted = world
        .api("DELETE", &format!("/sandboxes/{id}"), json!({}))
        .await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    is_told().await;
}

#[tokio::test]
async fn a_call_that_names_no_sandbox_finds_it_by_its_token_or_not_at_all() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let call = async |token: &str| {
        let request = request("POST", "/process.Process/List")
            .header("content-type", "application/json")
            .header("x-access-token", token);
        send(&world.front, request.body("{}".into()).unwrap()).await
    };
    assert_eq!(
        call(&sandbox.token).await.json(),
        json!({ "processes": [] })
    );
    let nowhere = call("nonsense").await;
    let wanted = json!({ "sandboxId": "", "message": "The sandbox was not found", "code": 502 });
    assert_eq!(
        (nowhere.status, nowhere.json()),
        (StatusCode::BAD_GATEWAY, wanted)
    );
}
