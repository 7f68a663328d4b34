//! The control plane: exact codes and bodies, and nothing for strangers.

use std::fmt::Write;

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use skerry_control::e2b_key;

use crate::world::{Answer, World, request, send};

/// What can be asked of a sandbox, a template and the rest. `{id}` is a sandbox.
const OPERATIONS: [(&str, &str); 31] = [
    ("POST", "/v2/sandboxes"),
    ("POST", "/sandboxes"),
    ("GET", "/v2/sandboxes"),
    ("GET", "/sandboxes"),
    ("GET", "/snapshots"),
    ("GET", "/templates"),
    ("GET", "/teams"),
    ("POST", "/v3/templates"),
    ("POST", "/v2/templates"),
    ("GET", "/sandboxes/{id}"),
    ("DELETE", "/sandboxes/{id}"),
    ("POST", "/sandboxes/{id}/timeout"),
    ("POST", "/sandboxes/{id}/refreshes"),
    ("POST", "/v2/sandboxes/{id}/connect"),
    ("POST", "/sandboxes/{id}/connect"),
    ("POST", "/sandboxes/{id}/resume"),
    ("POST", "/sandboxes/{id}/pause"),
    ("POST", "/sandboxes/{id}/fork"),
    ("POST", "/sandboxes/{id}/snapshots"),
    ("PUT", "/sandboxes/{id}/network"),
    ("GET", "/sandboxes/{id}/metrics"),
    ("GET", "/sandboxes/{id}/logs"),
    ("GET", "/v2/sandboxes/{id}/logs"),
    ("GET", "/templates/app"),
    ("DELETE", "/templates/app"),
    ("PATCH", "/v2/templates/app"),
    ("GET", "/templates/aliases/app"),
    ("POST", "/templates/tags"),
    ("DELETE", "/templates/tags"),
    ("GET", "/templates/app/tags"),
    (
        "POST",
        "/v2/templates/app/builds/00000000-0000-7000-8000-000000000000",
    ),
];
/// Of these the first concern nobody's things in particular.
const COMMON: usize = 9;

/// A body with all that any of them needs.
fn whole_body() -> Value {
    json!({
        "templateID": "base", "timeout": 60, "name": "app", "target": "app", "tags": ["x"], "fromImage": "e2bdev/base", "public": false,
    })
}

#[tokio::test]
async fn strangers_get_nothing_and_learn_nothing() {
    let world = World::new().await;
    let id = world.sandbox().await.id;
    world
        .api("POST", "/v3/templates", json!({"name": "app"}))
        .await;
    for (number, (method, path)) in OPERATIONS.into_iter().enumerate() {
        let path = path.replace("{id}", &id);
        for key in [None, Some("e2b_0"), Some("sk_unknown")] {
            let answer = world.ask(key, method, &path, whole_body()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(answer.json()["code"], 401);
            assert!(answer.json()["message"].is_string());
        }
        if number >= COMMON {
            let answer = world
                .ask(Some(&world.other), method, &path, whole_body())
                .await;
            let body = answer.json();
            assert_eq!(
                answer.status,
                StatusCode::NOT_FOUND,
                "{method} {path}: {body}"
            );
            assert_eq!(body["code"], 404);
        }
    }
    for list in ["/v2/sandboxes", "/sandboxes", "/snapshots", "/templates"] {
        let answer = world
            .ask(Some(&world.other), "GET", list, Value::Null)
            .await;
        let theirs = answer.json();
        let mine = theirs.as_array().unwrap();
        assert!(!mine.iter().any(|one| one["sandboxID"] == *id), "{list}");
    }
}

#[tokio::test]
async fn a_key_has_a_spelling_that_clients_take() {
    let world = World::new().await;
    let key = e2b_key(&world.key).unwrap();
    assert!(key.starts_with("e2b_") && key[4..].bytes().all(|b| b.is_ascii_hexdigit()));
    let answer = world
        .ask(Some(&key), "GET", "/v2/sandboxes", Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = world
        .ask(Some(&key), "GET", "/v1/sandboxes", Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "it is the same key");
}

/// What was asked and answered, with whatever differs each time taken out.
#[derive(Default)]
struct Trace(String);

impl Trace {
    fn note(&mut self, method: &str, path: &str, id: &str, answer: &Answer) {
        let body = match answer.body.as_ref() {
            [] => String::new(),
            _ => serde_json::to_string(&masked(answer.json())).unwrap(),
        };
        let body = if id.is_empty() {
            body
        } else {
            body.replace(id, "ID")
        };
        writeln!(
            self.0,
            "{method} {path}\n  {} {body}",
            answer.status.as_u16()
        )
        .unwrap();
    }
}

fn masked(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let value = match (&*name, value) {
                    ("templateID", value @ Value::String(_)) if value == "base" => value,
                    (name, Value::String(_)) if name.ends_with("ID") => json!("ID"),
                    (name, Value::String(_)) if name.ends_with("Token") => json!("TOKEN"),
                    (name, Value::String(_)) if name.ends_with("At") => json!("TIME"),
                    ("timestamp", _) => json!("TIME"),
                    ("timestampUnix" | "memUsed" | "diskUsed" | "cpuUsedPct", _) => json!(0),
                    (_, value) => masked(value),
                };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(masked).collect(),
        other => other,
    }
}

/// One step of a life: asked, noted, and given back.
async fn step(
    world: &World,
    trace: &mut Trace,
    what: (&str, &str),
    id: &str,
    body: Value,
) -> Answer {
    let answer = world.api(what.0, &what.1.replace("{id}", id), body).await;
    trace.note(what.0, what.1, id, &answer);
    answer
}

#[tokio::test]
async fn a_life_to_the_letter() {
    let world = World::new().await;
    let mut trace = Trace::default();
    let new = json!({
        "templateID": "base", "metadata": {"a b": "c/d=e"}, "envVars": {"A": "1"}, "autoPause": true, "unknown": 1,
    });
    let made = step(&world, &mut trace, ("POST", "/v2/sandboxes"), "", new).await;
    let id = made.json()["sandboxID"].as_str().unwrap().to_owned();
    assert!(
        id.bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    );
    // As clients quote it: twice.
    let listed = "/v2/sandboxes?metadata=a%252520b%3Dc%2Fd%25253De&state=running,paused&limit=10";
    for what in [
        ("GET", "/sandboxes/{id}"),
        ("GET", listed),
        ("GET", "/v2/sandboxes?metadata=a%3Db"),
        ("GET", "/v2/sandboxes?template=other"),
        ("GET", "/v2/sandboxes?state=unheard-of"),
    ] {
        step(&world, &mut trace, what, &id, Value::Null).await;
    }
    for (method, path, body) in [
        ("POST", "/sandboxes/{id}/timeout", json!({"timeout": 600})),
        (
            "POST",
            "/sandboxes/{id}/timeout",
            json!({"timeout": 1_000_000}),
        ),
        ("POST", "/sandboxes/{id}/timeout", json!({})),
        ("POST", "/v2/sandboxes/{id}/connect", json!({})),
        ("POST", "/sandboxes/{id}/connect", json!({"timeout": 10})),
        (
            "POST",
            "/sandboxes/{id}-skerry/refreshes",
            json!({"duration": 10}),
        ),
        ("POST", "/sandboxes/{id}/resume", json!({})),
        ("POST", "/sandboxes/{id}/pause", json!({"memory": false})),
        ("POST", "/sandboxes/{id}/pause", Value::Null),
        ("POST", "/sandboxes/{id}/pause", json!({})),
        ("GET", "/sandboxes/{id}", Value::Null),
        ("GET", "/sandboxes", Value::Null),
        ("POST", "/v2/sandboxes/{id}/connect", json!({"timeout": 20})),
        ("GET", "/sandboxes/{id}/metrics", Value::Null),
        ("GET", "/sandboxes/{id}/metrics?end=1", Value::Null),
        (
            "PUT",
            "/sandboxes/{id}/network",
            json!({"denyOut": ["10.0.0.0/8"]}),
        ),
        ("POST", "/sandboxes/{id}/network", json!({})),
        ("POST", "/secrets", json!({"name": "s"})),
        ("DELETE", "/sandboxes/{id}", Value::Null),
        ("DELETE", "/sandboxes/{id}", Value::Null),
        ("GET", "/sandboxes/{id}", Value::Null),
        ("POST", "/v2/sandboxes/{id}/connect", json!({})),
    ] {
        step(&world, &mut trace, (method, path), &id, body).await;
    }
    insta::assert_snapshot!(trace.0);
}

/// Some clients put the headers of the data plane on it.
#[tokio::test]
async fn a_sandbox_named_in_headers_too_is_still_asked_about() {
    let world = World::new().await;
    let island = world.sandbox().await;
    let path = format!("/sandboxes/{}/connect", island.id);
    let asked = island
        .request("POST", &path)
        .header("x-api-key", &world.key);
    let body = Body::from(json!({"timeout": 10}).to_string());
    let asked = asked.header("content-type", "application/json").body(body);
    let answer = island.send(asked.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["sandboxID"], island.id);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_and_not_ignored() {
    let world = World::new().await;
    let mut trace = Trace::default();
    for more in [
        json!({"templateID": "unheard-of"}),
        json!({"mcp": {"server": {}}}),
        json!({"iam": {"tokens": {}}}),
        json!({"volumeMounts": [{"name": "a", "path": "/a"}]}),
        json!({"autoPauseMemory": false}),
        json!({"network": {"allowOut": ["example.org"]}}),
        json!({"network": {"rules": {"example.org": []}}}),
        json!({"timeout": -1}),
        json!({"timeout": 100_000_000}),
        json!({"metadata": {"a": 1}}),
    ] {
        let mut body = json!({"templateID": "base"});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = world.api("POST", "/v2/sandboxes", body).await;
        trace.note("POST", &more.to_string(), "", &answer);
    }
    let all = world.api("GET", "/v2/sandboxes", Value::Null).await;
    assert_eq!(all.json(), json!([]), "nothing was made");
    insta::assert_snapshot!(trace.0);
}

#[tokio::test]
async fn rules_of_the_network_are_replaced_whole() {
    let world = World::new().await;
    let rules = json!({"allowOut": ["Example.org", "192.0.2.7"], "denyOut": ["0.0.0.0/0"]});
    let body = json!({"templateID": "base", "network": rules});
    let made = world.api("POST", "/v2/sandboxes", body).await.json();
    let path = format!("/sandboxes/{}", made["sandboxID"].as_str().unwrap());
    let seen = async || {
        let seen = world.api("GET", &path, Value::Null).await.json();
        (seen["network"].clone(), seen["allowInternetAccess"] == true)
    };
    let shown = |allow: &[&str], deny: &[&str]| json!({"allowOut": allow, "denyOut": deny, "allowPublicTraffic": true});
    let first = shown(&["example.org", "192.0.2.7"], &["0.0.0.0/0"]);
    assert_eq!(seen().await, (first, false));
    for (rules, network, internet) in [
        (
            json!({"denyOut": ["192.0.2.0/24"]}),
            shown(&[], &["192.0.2.0/24"]),
            true,
        ),
        (
            json!({"allow_internet_access": false}),
            shown(&[], &["0.0.0.0/0"]),
            false,
        ),
        (json!({}), shown(&[], &[]), true),
    ] {
        let answer = world.api("PUT", &format!("{path}/network"), rules).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(seen().await, (network, internet));
    }
    for (rules, status) in [
        (json!({"allowOut": ["example.org"]}), 400),
        (json!({"denyOut": ["example.org"]}), 400),
        (json!({"dnsServers": ["192.0.2.1"]}), 422),
        (json!({"httpsPorts": [443]}), 422),
    ] {
        let answer = world.api("PUT", &format!("{path}/network"), rules).await;
        assert_eq!(answer.status.as_u16(), status);
    }
    assert_eq!(seen().await, (shown(&[], &[]), true), "nothing has changed");
}

#[tokio::test]
async fn times_end_as_each_generation_expects() {
    let world = World::new().await;
    let lives = async |path: &str, body: Value| {
        let made = world.api("POST", path, body).await.json();
        let id = made["sandboxID"].as_str().unwrap().to_owned();
        let path = format!("/sandboxes/{id}");
        let seen = world.api("GET", &path, Value::Null).await.json();
        let at = |name: &str| {
            seen[name]
                .as_str()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .unwrap()
        };
        let seconds = at("endAt").duration_since(at("startedAt")).as_secs();
        (seconds, seen["lifecycle"].clone())
    };
    let kill = json!({"autoResume": false, "onTimeout": "kill"});
    let pause = json!({"autoResume": true, "onTimeout": "pause"});
    let base = json!({"templateID": "base"});
    assert_eq!(lives("/sandboxes", base.clone()).await, (15, kill.clone()));
    assert_eq!(lives("/v2/sandboxes", base).await, (300, kill));
    let sleeps = json!({"templateID": "base", "timeout": 77, "autoPause": true, "autoResume": {"enabled": true}});
    assert_eq!(lives("/v2/sandboxes", sleeps).await, (77, pause));
}

#[tokio::test]
async fn a_list_has_pages_in_either_order() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(world.sandbox().await.id);
    }
    for (order, expected) in [
        ("asc", made.clone()),
        ("desc", made.iter().rev().cloned().collect()),
    ] {
        let mut seen = Vec::new();
        let mut next = String::new();
        loop {
            let path = format!("/v2/sandboxes?limit=2&order={order}&nextToken={next}");
            let page = world.api("GET", &path, Value::Null).await;
            for one in page.json().as_array().unwrap() {
                seen.push(one["sandboxID"].as_str().unwrap().to_owned());
            }
            next = page.header("x-next-token").to_owned();
            if next.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected, "{order}");
    }
}

#[tokio::test]
async fn pages_of_any_site_may_ask_with_a_key() {
    let world = World::new().await;
    let ask = request("OPTIONS", "/v2/sandboxes")
        .header("origin", "https://example.org")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-api-key");
    let allowed = send(&world.front, ask.body(Body::empty()).unwrap()).await;
    assert_eq!(allowed.header("access-control-allow-origin"), "*");
    let list = request("GET", "/v2/sandboxes")
        .header("origin", "https://example.org")
        .header("x-api-key", &world.key);
    let list = send(&world.front, list.body(Body::empty()).unwrap()).await;
    assert_eq!(list.status, StatusCode::OK);
    assert_eq!(list.header("access-control-expose-headers"), "x-next-token");
}

#[tokio::test]
async fn create_is_done_once_for_a_key_of_its_own() {
    let world = World::new().await;
    let key = "a".repeat(200);
    let create = async || {
        let request = request("POST", "/v2/sandboxes")
            .header("x-api-key", &world.key)
            .header("content-type", "application/json")
            .header("idempotency-key", &key);
        let body = json!({"templateID": "base"}).to_string();
        send(&world.front, request.body(body.into()).unwrap())
            .await
            .json()
    };
    assert_eq!(create().await, create().await);
}

#[tokio::test]
async fn forks_and_snapshots_can_be_used_and_removed() {
    let world = World::new().await;
    let mut trace = Trace::default();
    let id = world.sandbox().await.id;
    let forked = step(
        &world,
        &mut trace,
        ("POST", "/sandboxes/{id}/fork"),
        &id,
        json!({"count": 2}),
    )
    .await;
    let forks = forked.json();
    assert_ne!(
        forks[0]["sandbox"]["sandboxID"],
        forks[1]["sandbox"]["sandboxID"]
    );
    let named = json!({"name": "team/kept:default"});
    let taken = step(
        &world,
        &mut trace,
        ("POST", "/sandboxes/{id}/snapshots"),
        &id,
        named,
    )
    .await;
    let snapshot = taken.json()["snapshotID"].as_str().unwrap().to_owned();
    step(
        &world,
        &mut trace,
        ("GET", "/snapshots?sandboxID={id}"),
        &id,
        Value::Null,
    )
    .await;
    step(
        &world,
        &mut trace,
        ("GET", "/snapshots?name=team/kept"),
        &id,
        Value::Null,
    )
    .await;
    for source in ["team/kept", &*snapshot] {
        let made = world
            .api("POST", "/v2/sandboxes", json!({"templateID": source}))
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    }
    for _ in 0..2 {
        step(
            &world,
            &mut trace,
            ("DELETE", "/templates/{id}"),
            &snapshot,
            Value::Null,
        )
        .await;
    }
    insta::assert_snapshot!(trace.0);
}

#[tokio::test]
async fn a_template_is_built_in_steps_and_used() {
    let world = World::new().await;
    let mut trace = Trace::default();
    let asked = json!({"name": "app", "tags": ["v1", "v2"], "cpuCount": 2, "memoryMB": 1024});
    let asked = step(&world, &mut trace, ("POST", "/v3/templates"), "", asked).await;
    let (template, build) = (
        asked.json()["templateID"].clone(),
        asked.json()["buildID"].clone(),
    );
    let (template, build) = (template.as_str().unwrap(), build.as_str().unwrap());
    let builds = format!("/v2/templates/{template}/builds/{build}");
    let recipe = json!({
        "fromImage": "e2bdev/base:latest", "force": false, "steps": [
            {"type": "ENV", "args": ["A", "1", "B", "x y"], "force": false},
            {"type": "WORKDIR", "args": ["/app"], "force": false},
            {"type": "RUN", "args": ["true", "root"], "force": true},
        ],
    });
    let started = world.api("POST", &builds, recipe.clone()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{:?}", started.body);
    let again = world.api("POST", &builds, recipe).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "it begins once");
    let (status, lines) = drained(&world, template, build).await;
    assert_eq!(status["status"], "ready", "{status} {lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("[3/3] RUN true")),
        "{lines:?}"
    );

    let made = world
        .api("POST", "/v2/sandboxes", json!({"templateID": "app:v1"}))
        .await;
    assert_eq!(
        (made.status, &made.json()["alias"]),
        (StatusCode::CREATED, &json!("app"))
    );
    let of = world
        .api(
            "GET",
            &format!("/v2/sandboxes?template={template}"),
            Value::Null,
        )
        .await;
    assert_eq!(of.json()[0]["templateID"], "app");
    let tagging = json!({"target": "app:v2", "tags": ["default", "prod"]});
    for (method, path, body) in [
        ("POST", "/templates/tags", tagging),
        ("GET", "/templates/app/tags", Value::Null),
        (
            "DELETE",
            "/templates/tags",
            json!({"name": "app", "tags": ["v1"]}),
        ),
        (
            "DELETE",
            "/templates/tags",
            json!({"name": "app", "tags": ["v1"]}),
        ),
        ("GET", "/templates/aliases/team%2Fapp", Value::Null),
        ("GET", "/templates/aliases/app", Value::Null),
        ("GET", "/templates/aliases/base", Value::Null),
        ("GET", "/templates", Value::Null),
        ("GET", "/templates/app", Value::Null),
        ("PATCH", "/v2/templates/app", json!({"public": true})),
        ("PATCH", "/v2/templates/app", json!({"public": false})),
        ("DELETE", "/templates/app", Value::Null),
        ("DELETE", "/templates/app", Value::Null),
    ] {
        step(&world, &mut trace, (method, path), "", body).await;
    }
    insta::assert_snapshot!(trace.0);
}

/// Follows a build as clients do: until it has ended, and then until there is no line left.
async fn drained(world: &World, template: &str, build: &str) -> (Value, Vec<String>) {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let path = format!(
            "/templates/{template}/builds/{build}/status?logsOffset={}&limit=2",
            lines.len()
        );
        let status = world.api("GET", &path, Value::Null).await.json();
        let more = status["logEntries"].as_array().unwrap();
        lines.extend(
            more.iter()
                .map(|line| line["message"].as_str().unwrap().to_owned()),
        );
        let is_over = status["status"] == "ready" || status["status"] == "error";
        if is_over && more.is_empty() {
            return (status, lines);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_build_that_fails_names_its_step() {
    let world = World::new().await;
    for (recipe, step) in [
        (json!({"fromTemplate": "unheard-of", "steps": []}), "base"),
        (
            json!({"fromImage": "e2bdev/base", "steps": [
                {"type": "ENV", "args": ["A", "1"]},
                {"type": "COPY", "args": ["a", "/a", "", ""], "filesHash": "0".repeat(64)},
            ]}),
            "2",
        ),
    ] {
        let asked = world
            .api("POST", "/v3/templates", json!({"name": "app"}))
            .await
            .json();
        let id = |name: &str| asked[name].as_str().unwrap().to_owned();
        let (template, build) = (id("templateID"), id("buildID"));
        upload(&world, &template, b"no archive").await;
        let path = format!("/v2/templates/{template}/builds/{build}");
        let started = world.api("POST", &path, recipe).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{:?}", started.body);
        let (status, _) = drained(&world, &template, &build).await;
        assert_eq!(status["status"], "error");
        assert_eq!(status["reason"]["step"], step, "{status}");
    }
}

/// Sends files by the link that there is for them, which needs no key, and looks that it is good for nothing else.
async fn upload(world: &World, template: &str, content: &'static [u8]) {
    let path = format!("/templates/{template}/files/{}", "0".repeat(64));
    let link = world.api("GET", &path, Value::Null).await;
    assert_eq!(link.status, StatusCode::CREATED);
    let link = link.json();
    if link["present"] == true {
        return;
    }
    let url = link["url"].as_str().unwrap();
    let path = url.strip_prefix("http://localhost").unwrap();
    let put = async |path: &str| {
        let request = request("PUT", path).header("content-length", content.len());
        send(&world.front, request.body(content.into()).unwrap())
            .await
            .status
    };
    let altered = path.replace(&"0".repeat(64), &"1".repeat(64));
    assert_eq!(put(&altered).await, StatusCode::FORBIDDEN);
    assert_eq!(put(path).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn logs_are_what_happened() {
    let world = World::new().await;
    let id = world.sandbox().await.id;
    let path = format!("/sandboxes/{id}/logs");
    let logs = world.api("GET", &path, Value::Null).await.json();
    let first: Value = serde_json::from_str(logs["logs"][0]["line"].as_str().unwrap()).unwrap();
    assert_eq!(first["message"], logs["logEntries"][0]["message"]);
    let path = format!("/v2/sandboxes/{id}/logs");
    let newer = world.api("GET", &path, Value::Null).await.json();
    assert_eq!(newer["logs"], logs["logEntries"]);
}
