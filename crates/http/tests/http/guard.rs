//! Host names, web pages of others, keys.

use serde_json::json;
use skerry_http::Settings;

use crate::world::{World, send};

#[tokio::test]
async fn a_host_name_that_someone_else_controls_is_refused_everywhere() {
    let world = World::new().await;
    for path in ["/v1/sandboxes", "/health", "/openapi.json", "/docs/"] {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
        ] {
            let answer = send(world.request("GET", path).header("host", host)).await;
            assert_eq!(
                (answer.status, answer.code()),
                (421, "misdirected_request".into())
            );
        }
        for host in [
            "localhost",
            "LOCALHOST:1",
            "box.localhost:9",
            "127.0.0.1",
            "[::1]:8080",
        ] {
            let answer = send(world.request("GET", path).header("host", host)).await;
            assert_eq!(answer.status, 200, "{host}{path}");
        }
    }
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing() {
    let origins = vec!["https://friend.example".to_owned()];
    let settings = Settings {
        origins,
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let refused = [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("origin", "https://friend.example.evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for (name, value) in refused {
        for method in ["GET", "POST"] {
            let request = world.request(method, "/v1/sandboxes").header(name, value);
            let answer = send(request.json(&json!({}))).await;
            assert_eq!(
                (answer.status, answer.code()),
                (403, "forbidden".into()),
                "{value}"
            );
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    let own = format!("http://{}", world.address);
    for origin in [own.as_str(), "https://friend.example"] {
        let request = world
            .request("GET", "/v1/sandboxes")
            .header("origin", origin);
        assert_eq!(send(request).await.status, 200, "{origin}");
    }
    let friend = world.bare("OPTIONS", "/v1/sandboxes");
    let friend = friend.header("origin", "https://friend.example");
    let friend = send(friend.header("access-control-request-method", "POST")).await;
    assert_eq!(
        friend.header("access-control-allow-origin"),
        "https://friend.example"
    );
    assert_eq!(
        world.get("/v1/sandboxes").await.json()["sandboxes"],
        json!([])
    );
}

#[tokio::test]
async fn a_form_of_another_site_makes_no_sandbox() {
    let world = World::new().await;
    // What a browser sends without asking first: a plain type, and no word on where it comes from if it is old.
    let request = world.request("POST", "/v1/sandboxes");
    let request = request.header("content-type", "text/plain").body("{}");
    let answer = send(request).await;
    assert_eq!(
        (answer.status, answer.code()),
        (415, "unsupported_media_type".into())
    );
    assert_eq!(
        world.get("/v1/sandboxes").await.json()["sandboxes"],
        json!([])
    );
}

#[tokio::test]
async fn keys_come_in_two_headers_and_in_no_other_way() {
    let world = World::new().await;
    let key = world.key.as_str();
    let ask = |name: &str, value: String| {
        send(
            world
                .bare("GET", "/v1/sandboxes")
                .header(name.to_owned(), value),
        )
    };
    assert_eq!(
        ask("authorization", format!("Bearer {key}")).await.status,
        200
    );
    assert_eq!(
        ask("authorization", format!("bearer {key}")).await.status,
        200
    );
    assert_eq!(ask("x-api-key", key.into()).await.status, 200);
    for (name, value) in [
        ("authorization", format!("Basic {key}")),
        ("authorization", "Bearer".into()),
        ("authorization", "Bearer ".into()),
        ("x-api-key", String::new()),
        ("x-api-key", format!("{key}x")),
        ("x-api-key", "k".repeat(4000)),
        ("cookie", format!("key={key}")),
    ] {
        let answer = ask(name, value.clone()).await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, "unauthorized".into()),
            "{value}"
        );
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let query = send(world.bare("GET", &format!("/v1/sandboxes?key={key}"))).await;
    assert_eq!(query.status, 401);
    // Not even whether a route is there is told.
    assert_eq!(send(world.bare("GET", "/v1/nothing")).await.status, 401);
}

#[tokio::test]
async fn limits_count_by_kind_and_org_and_say_where_one_stands() {
    let world = World::new().await;
    let ask = async |method: &str, path: &str| {
        let request = world.bare(method, path).bearer_auth(&world.limited);
        let body = json!({"cmd": "echo hello"});
        let answer = send(if path.ends_with("exec") {
            request.json(&body)
        } else {
            request
        });
        let answer = answer.await;
        let left = answer.header("x-ratelimit-remaining").to_owned();
        (answer, left)
    };
    let (made, left) = ask("POST", "/v1/sandboxes").await;
    assert_eq!((made.status, left.as_str()), (201, "1"));
    assert_eq!(made.header("x-ratelimit-limit"), "2");
    let now = jiff::Timestamp::now().as_second();
    let reset: i64 = made.header("x-ratelimit-reset").parse().unwrap();
    assert!((now..=now + 60).contains(&reset), "{reset} {now}");
    let sandbox = made.json()["sandbox_id"].as_str().unwrap().to_owned();
    let exec = format!("/v1/sandboxes/{sandbox}/exec");
    let one = format!("/v1/sandboxes/{sandbox}");
    for (method, path, status, left) in [
        ("POST", "/v1/sandboxes", 201, "0"),
        ("POST", "/v1/sandboxes", 429, "0"),
        ("POST", &format!("{one}/fork"), 429, "0"),
        ("POST", &exec, 200, "0"),
        ("POST", &exec, 429, "0"),
        ("GET", &one, 200, "2"),
        ("GET", "/v1/nothing", 404, "1"),
        ("DELETE", &one, 200, "0"),
        ("GET", &one, 429, "0"),
    ] {
        let (answer, remaining) = ask(method, path).await;
        assert_eq!(
            (answer.status, remaining.as_str()),
            (status, left),
            "{path}"
        );
        if status == 429 {
            assert_eq!(answer.code(), "rate_limited");
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
    }
    let others = world.get("/v1/sandboxes").await;
    assert_eq!(
        (others.status, others.header("x-ratelimit-limit")),
        (200, "")
    );
}
