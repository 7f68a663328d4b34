//! Volumes and what is in them, to the letter.

use axum::body::Body;
use serde_json::{Value, json};

use crate::world::{Answer, World, request, send};

/// A volume, as a client knows it.
struct Shared {
    id: String,
    token: String,
}

impl World {
    async fn shared(&self, name: &str) -> Shared {
        let made = self.api("POST", "/volumes", json!({"name": name})).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let made = made.json();
        assert_eq!(made["name"], name);
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        Shared {
            id: text("volumeID"),
            token: text("token"),
        }
    }

    async fn inside(&self, shared: &Shared, token: &str, at: (&str, &str), body: &str) -> Answer {
        let path = format!("/volumecontent/{}/{}", shared.id, at.1);
        let request = request(at.0, &path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        send(
            &self.front,
            request.body(Body::from(body.to_owned())).unwrap(),
        )
        .await
    }
}

#[tokio::test]
async fn a_life_of_a_volume() {
    let world = World::new().await;
    let shared = world.shared("data").await;
    let got = world
        .api("GET", &format!("/volumes/{}", shared.id), Value::Null)
        .await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.json(),
        json!({"volumeID": shared.id, "name": "data", "token": shared.token})
    );
    let all = world.api("GET", "/volumes", Value::Null).await;
    assert_eq!(all.json(), json!([{"volumeID": shared.id, "name": "data"}]));
    let again = world.api("POST", "/volumes", json!({"name": "data"})).await;
    assert_eq!(
        (again.status.as_u16(), again.json()["code"].clone()),
        (409, json!(409))
    );
    let theirs = format!("/volumes/{}", shared.id);
    for method in ["GET", "DELETE"] {
        let other = world
            .ask(Some(&world.other), method, &theirs, Value::Null)
            .await;
        assert_eq!(other.status, 404, "{method} of another tenant");
        let nobody = world.ask(None, method, &theirs, Value::Null).await;
        assert_eq!(nobody.status, 401, "{method} without a key");
    }
    for status in [204, 404] {
        let removed = world.api("DELETE", &theirs, Value::Null).await;
        assert_eq!(removed.status.as_u16(), status);
    }
    let late = world
        .inside(&shared, &shared.token, ("GET", "path?path=/"), "")
        .await;
    assert_eq!(
        (late.status.as_u16(), late.json()["code"].clone()),
        (404, json!("not_found"))
    );
}

#[tokio::test]
async fn only_its_own_token_opens_it() {
    let world = World::new().await;
    let (one, other) = (world.shared("one").await, world.shared("other").await);
    for at in [
        ("GET", "path?path=/"),
        ("PATCH", "path?path=/"),
        ("DELETE", "path?path=/a"),
        ("GET", "dir?path=/"),
        ("POST", "dir?path=/a"),
        ("GET", "file?path=/a"),
        ("PUT", "file?path=/a"),
    ] {
        for token in ["", "nonsense", &other.token, &world.key] {
            let answer = world.inside(&one, token, at, "{}").await;
            let code = answer.json()["code"].clone();
            assert_eq!(
                (answer.status.as_u16(), code),
                (401, json!("unauthorized")),
                "{at:?}"
            );
        }
        let opened = world.inside(&one, &one.token, at, "{}").await;
        assert_ne!(opened.status.as_u16(), 401, "{at:?}");
    }
}

#[tokio::test]
async fn files_and_folders_come_and_go() {
    let world = World::new().await;
    let shared = world.shared("data").await;
    let ask = async |method, at, body| {
        world
            .inside(&shared, &shared.token, (method, at), body)
            .await
    };
    let made = ask("POST", "dir?path=/a&mode=448&uid=1&gid=2", "").await;
    assert_eq!(made.status, 201);
    let entry = made.json();
    assert_eq!(
        (&entry["name"], &entry["path"]),
        (&json!("a"), &json!("/a"))
    );
    assert_eq!(
        (&entry["type"], &entry["mode"]),
        (&json!("directory"), &json!(0o700))
    );
    for time in ["atime", "mtime", "ctime"] {
        assert!(entry[time].as_str().unwrap().ends_with('Z'), "{entry}");
    }
    assert_eq!(ask("POST", "dir?path=/x/y", "").await.status, 404);
    assert_eq!(
        ask("POST", "dir?path=/x/y&force=true", "").await.status,
        201
    );
    assert_eq!(ask("PUT", "file?path=/no/where", "text").await.status, 404);
    let written = ask("PUT", "file?path=a/file.txt", "text").await;
    assert_eq!(
        (written.status.as_u16(), written.json()["size"].clone()),
        (201, json!(4))
    );
    let read = ask("GET", "file?path=/a/file.txt", "").await;
    assert_eq!((read.status.as_u16(), &read.body[..]), (200, &b"text"[..]));
    let changed = ask("PATCH", "path?path=/a/file.txt", r#"{"mode": 384}"#).await;
    assert_eq!(
        (changed.status.as_u16(), changed.json()["mode"].clone()),
        (200, json!(0o600))
    );
    let paths = |answer: Answer| -> Vec<Value> {
        let entries = answer.json();
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["path"].clone()).collect()
    };
    assert_eq!(paths(ask("GET", "dir?path=/", "").await), ["/a", "/x"]);
    let deep = ask("GET", "dir?path=/&depth=2", "").await;
    assert_eq!(paths(deep), ["/a", "/a/file.txt", "/x", "/x/y"]);
    assert_eq!(ask("DELETE", "path?path=/a", "").await.status, 204);
    assert_eq!(ask("DELETE", "path?path=/a", "").await.status, 404);
    assert_eq!(ask("GET", "path?path=/../etc/passwd", "").await.status, 400);
}
