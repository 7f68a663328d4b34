//! Pages of lists: no gap, no double, whatever happens in between.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::World;

/// Reads all pages of `limit`; `between` runs after the first.
async fn pages(
    world: &World,
    path: &str,
    list: &str,
    limit: u32,
    between: impl AsyncFnOnce(),
) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut between = Some(between);
    let mut cursor = Value::Null;
    loop {
        let next = cursor.as_str().map(|cursor| format!("&cursor={cursor}"));
        let url = format!("{path}limit={limit}{}", next.unwrap_or_default());
        let page = world.get(&url).await.json();
        pages.push(
            page[list]
                .as_array()
                .unwrap_or_else(|| panic!("{page}"))
                .clone(),
        );
        if let Some(between) = between.take() {
            between().await;
        }
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return pages;
        }
    }
}

fn sizes(pages: &[Vec<Value>]) -> Vec<usize> {
    pages.iter().map(Vec::len).collect()
}

fn distinct(pages: &[Vec<Value>], key: &str) -> usize {
    let keys = pages.iter().flatten().map(|item| item[key].to_string());
    keys.collect::<BTreeSet<_>>().len()
}

#[tokio::test]
async fn sandboxes_by_fifty_while_more_are_made() {
    let world = World::new().await;
    for _ in 0..120 {
        world.sandbox().await;
    }
    let pages = pages(&world, "/v1/sandboxes?", "sandboxes", 50, async || {
        world.sandbox().await;
    })
    .await;
    assert_eq!(sizes(&pages), [50, 50, 20]);
    assert_eq!(distinct(&pages, "sandbox_id"), 120);
}

#[tokio::test]
async fn execs_events_and_files() {
    let world = World::new().await;
    let s = world.sandbox().await;
    let id = s.rsplit('/').next().unwrap().parse().unwrap();
    for at in 0..7 {
        world.start(&s, "hold").await;
        world.node.happens(id, "test.event");
        let put = world.request("PUT", &format!("{s}/files?path=/f{at}"));
        assert_eq!(put.body("x").send().await.unwrap().status(), 200);
    }
    for (path, list, key) in [
        ("execs?", "execs", "number"),
        ("events?", "events", "seq"),
        ("files?path=/&list=true&", "files", "path"),
    ] {
        let pages = pages(&world, &format!("{s}/{path}"), list, 3, async || {}).await;
        let count = pages.iter().map(Vec::len).sum::<usize>();
        assert!(count >= 7 && distinct(&pages, key) == count, "{path}");
        assert!(
            sizes(&pages[..pages.len() - 1])
                .iter()
                .all(|size| *size == 3),
            "{path}"
        );
    }
    let held = world
        .get(&format!("{s}/execs?status=running&limit=200"))
        .await
        .json();
    assert_eq!(held["execs"].as_array().unwrap().len(), 7);
    let tagged = json!({"cmd": "hold", "wait": false, "tag": "mine"});
    let tagged = world.post(&format!("{s}/exec"), tagged).await.json();
    let found = world.get(&format!("{s}/execs?tag=mine")).await.json();
    assert_eq!(found["execs"], json!([tagged]));
    assert_eq!(tagged["tag"], "mine");
    let long = json!({"cmd": "hold", "wait": false, "tag": "x".repeat(257)});
    assert_eq!(world.post(&format!("{s}/exec"), long).await.status, 400);
    let done = world.get(&format!("{s}/execs?status=done")).await.json();
    assert_eq!(
        (&done["execs"], &done["next_cursor"]),
        (&json!([]), &Value::Null)
    );
}

#[tokio::test]
async fn lists_narrow_by_what_they_are_asked() {
    let world = World::new().await;
    let make = async |body: Value| {
        let made = world.post("/v1/sandboxes", body).await.json();
        made["sandbox_id"].as_str().unwrap().to_owned()
    };
    let a = make(json!({"metadata": {"team": "a", "x": "1"}})).await;
    let b =
        make(json!({"alias": "bee", "project": "p 1", "metadata": {"team": "b", "note": "a,b=c"}}))
            .await;
    let forked = world
        .post(&format!("/v1/sandboxes/{a}/fork"), json!({}))
        .await
        .json();
    let child = forked["sandbox_id"].as_str().unwrap();
    let list = async |query: &str| {
        let page = world.get(&format!("/v1/sandboxes?{query}")).await.json();
        let found = page["sandboxes"].as_array().unwrap().clone();
        let ids = found
            .iter()
            .map(|s| s["sandbox_id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(list("metadata=team=b").await, [b.as_str()]);
    assert_eq!(
        list("metadata=team%3Db&metadata=note=a,b=c").await,
        [b.as_str()]
    );
    assert!(list("metadata=team=a&metadata=note=a,b=c").await.is_empty());
    assert_eq!(list("name=bee").await, [b.as_str()]);
    assert_eq!(list("project=p%201").await, [b.as_str()]);
    assert!(list("project=p").await.is_empty());
    assert_eq!(
        list("metadata=team=b&status=running,paused&image=base").await,
        [b.as_str()]
    );
    assert_eq!(list(&format!("forked_from={a}")).await, [child]);
    assert!(list("status=deleted").await.is_empty());
    let tree = world
        .get(&format!("/v1/sandboxes/{child}/forks"))
        .await
        .json();
    assert_eq!(
        (&tree["root"], &tree["tree"][0]["children"]),
        (&json!(a), &json!([child]))
    );
}

#[tokio::test]
async fn a_sandbox_is_paused_measured_and_resumed() {
    let world = World::new().await;
    let s = world.sandbox().await;
    for (step, status) in [("pause", "paused"), ("resume", "running")] {
        // Again: fine.
        for _ in 0..2 {
            let answer = world.post(&format!("{s}/{step}"), json!({})).await;
            assert_eq!(
                (answer.status, &answer.json()["status"]),
                (200, &json!(status))
            );
        }
        assert_eq!(world.get(&s).await.json()["status"], status);
        if step == "pause" {
            let refused = world
                .post(&format!("{s}/exec"), json!({"cmd": "true"}))
                .await;
            assert_eq!(refused.status, 409);
        }
    }
    let metrics = world.get(&format!("{s}/metrics")).await;
    assert_eq!(metrics.status, 200);
    for number in [
        "cpu_us",
        "memory_bytes",
        "memory_peak_bytes",
        "pids",
        "disk_bytes",
        "oom_kills",
    ] {
        assert!(metrics.json()[number].is_u64(), "{number}");
    }
}
