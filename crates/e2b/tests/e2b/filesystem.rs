//! What is there, and what changes.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Answer, Island, World};

async fn call(sandbox: &Island, method: &str, message: Value) -> Answer {
    sandbox
        .call(&format!("filesystem.Filesystem/{method}"), message)
        .await
}

async fn touch(sandbox: &Island, path: &str) {
    let request = sandbox.request("POST", &format!("/files?path={path}"));
    let request = request.header("content-type", "application/octet-stream");
    let written = sandbox.send(request.body("x".into()).unwrap()).await;
    assert_eq!(written.status, StatusCode::OK);
}

#[tokio::test]
async fn directories_are_made_listed_moved_and_removed() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let made = call(&sandbox, "MakeDir", json!({ "path": "/tmp/a/b" })).await;
    assert_eq!(made.status, StatusCode::OK, "{:?}", made.body);
    let entry = &made.json()["entry"];
    assert_eq!(
        (
            &entry["name"],
            &entry["type"],
            &entry["path"],
            &entry["permissions"]
        ),
        (
            &json!("b"),
            &json!("FILE_TYPE_DIRECTORY"),
            &json!("/tmp/a/b"),
            &json!("drwxr-xr-x")
        )
    );
    let again = call(&sandbox, "MakeDir", json!({ "path": "/tmp/a/b/" })).await;
    assert_eq!(
        (again.status, &again.json()["code"]),
        (StatusCode::CONFLICT, &json!("already_exists"))
    );

    touch(&sandbox, "/tmp/a/file").await;
    let over = call(&sandbox, "MakeDir", json!({ "path": "/tmp/a/file" })).await;
    assert_eq!(
        (over.status, &over.json()["code"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_argument"))
    );
    let moved = call(
        &sandbox,
        "Move",
        json!({ "source": "/tmp/a/file", "destination": "/tmp/new/place/f" }),
    )
    .await;
    let entry = &moved.json()["entry"];
    assert_eq!(
        (
            &entry["path"],
            &entry["type"],
            &entry["size"],
            &entry["mode"]
        ),
        (
            &json!("/tmp/new/place/f"),
            &json!("FILE_TYPE_FILE"),
            &json!("1"),
            &json!(0o644)
        )
    );

    let names = async |path: &str, depth: u32| {
        let listed = call(&sandbox, "ListDir", json!({ "path": path, "depth": depth }))
            .await
            .json();
        let entries = listed["entries"].as_array().unwrap().iter();
        entries
            .map(|e| e["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/tmp/new", 0).await, ["/tmp/new/place"]);
    assert_eq!(
        names("/tmp/new", 2).await,
        ["/tmp/new/place", "/tmp/new/place/f"]
    );
    let file = call(&sandbox, "ListDir", json!({ "path": "/tmp/new/place/f" })).await;
    assert_eq!(file.json()["code"], "invalid_argument");

    for _ in 0..2 {
        let removed = call(&sandbox, "Remove", json!({ "path": "/tmp/new" })).await;
        assert_eq!(
            (removed.status, removed.json()),
            (StatusCode::OK, json!({}))
        );
    }
    for method in ["Stat", "ListDir"] {
        let missing = call(&sandbox, method, json!({ "path": "/tmp/new" })).await;
        assert_eq!(
            (missing.status, &missing.json()["code"]),
            (StatusCode::NOT_FOUND, &json!("not_found"))
        );
    }
}

#[tokio::test]
async fn changes_are_told_as_they_come_or_when_they_are_asked_for() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    call(&sandbox, "MakeDir", json!({ "path": "/tmp/seen" })).await;
    let watch = json!({ "path": "/tmp/seen", "includeEntry": true });
    let made = call(&sandbox, "CreateWatcher", watch.clone()).await.json();
    let mut events = sandbox
        .open("filesystem.Filesystem/WatchDir", &watch, &[])
        .await;
    assert_eq!(events.event().await, json!({ "start": {} }));
    touch(&sandbox, "/tmp/seen/new").await;
    let event = events.event().await;
    let event = &event["filesystem"];
    assert_eq!(
        (&event["name"], &event["type"]),
        (&json!("new"), &json!("EVENT_TYPE_CREATE"))
    );
    assert_eq!(event["entry"]["path"], "/tmp/seen/new");

    let taken = call(&sandbox, "GetWatcherEvents", made.clone())
        .await
        .json();
    assert_eq!(taken["events"][0]["name"], "new");
    let nothing = call(&sandbox, "GetWatcherEvents", made.clone())
        .await
        .json();
    assert_eq!(nothing, json!({ "events": [] }));
    let other = world.sandbox().await;
    let foreign = call(&other, "GetWatcherEvents", made.clone()).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    assert_eq!(
        call(&sandbox, "RemoveWatcher", made.clone()).await.json(),
        json!({})
    );
    let gone = call(&sandbox, "GetWatcherEvents", made).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    let missing = json!({ "path": "/tmp/none" });
    let (_, end) = sandbox
        .open("filesystem.Filesystem/WatchDir", &missing, &[])
        .await
        .rest()
        .await;
    assert_eq!(end["error"]["code"], "not_found");
}
