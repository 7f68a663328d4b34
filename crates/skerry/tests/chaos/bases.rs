//! What sandboxes are made from, removed while they are made: each is whole or there is none, and what was made needs nothing that is gone.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use skerry_client::api::{BuildStatus, MemoryWish, TakeSnapshot};
use skerry_client::shell;
use skerry_types::{ErrorCode, SandboxState};

use crate::api::{Answer, Call};
use crate::copies::{counts_on, ok, start_counter, with_memory, with_tools};
use crate::world::{World, dice, launch, moment, rounds};

/// Made at once of one base.
const COPIES: usize = 3;
/// Enough to take a while.
const FILL: &str = "mkdir /tmp/kept && head -c 20M /dev/urandom >/tmp/kept/file && cd /tmp/kept && sha256sum file >sum";
const IS_WHOLE: &str = "cd /tmp/kept && sha256sum --quiet -c sum";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_may_be_removed_while_something_is_made_of_it() {
    let (world, mut dice) = (World::launch(with_tools(launch())).await, dice());
    let mut subjects: Vec<_> = with_memory(&world).await;
    for subject in &subjects {
        start_counter(subject).await;
    }
    subjects.push(world.sandbox().await);
    for subject in &subjects {
        ok(subject, FILL).await;
        for _ in 0..rounds(3, 30) {
            let request = TakeSnapshot {
                memory: MemoryWish::Auto,
                ..TakeSnapshot::default()
            };
            let base = subject.take_snapshot(&request).await.unwrap();
            let memory = base.kind == "files+memory";
            let base = base.snapshot_id.to_string();
            let rollback = format!("sandboxes/{}/rollback", subject.id());
            let back = under_way(&world, Call::post(rollback, json!({ "snapshot": base })));
            let makes = make(&world, &base);
            tokio::time::sleep(moment(&mut dice, Duration::from_millis(60))).await;
            world.client.remove_snapshot(&base).await.unwrap();
            for made in join_all(makes).await {
                check_made(&world, &made.unwrap(), memory).await;
            }
            let back = back.await.unwrap();
            assert!(back.is_success() || back.status == 404, "{back:?}");
            ok(subject, IS_WHOLE).await;
            if memory {
                counts_on(subject).await;
            }
            assert_eq!(world.client.snapshots().await.unwrap(), []);
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_template_may_be_removed_while_something_is_made_of_it() {
    let (world, mut dice) = (World::start().await, dice());
    for _ in 0..rounds(3, 30) {
        build(&world).await;
        let makes = make(&world, "app");
        tokio::time::sleep(moment(&mut dice, Duration::from_millis(60))).await;
        world.client.remove_template("app").await.unwrap();
        for made in join_all(makes).await {
            check_made(&world, &made.unwrap(), false).await;
        }
        for refused in join_all(make(&world, "app")).await {
            let said = refused.unwrap();
            assert_eq!(said.text("error"), ErrorCode::ValidationError.as_str());
        }
    }
    // Layers of what was built stay for a while.
    world.end_server().await;
}

/// Builds the template anew, as far as nothing is kept of it.
async fn build(world: &World) {
    let fill = json!({ "run": { "command": FILL } });
    let steps = json!([{ "text": "fill", "action": fill }]);
    let body = json!({ "recipe": { "from": "host", "steps": steps } });
    let begun = Call::post("templates/app/builds", body);
    let begun = world.api.call(&begun).await.unwrap();
    assert!(begun.is_success(), "{begun:?}");
    let id = begun.text("build_id").parse().unwrap();
    world
        .eventually("it is built", async || {
            let build = world.client.build("app", id).await.unwrap();
            (build.status == BuildStatus::Ready).then_some(())
        })
        .await;
}

type UnderWay = tokio::task::JoinHandle<Answer>;

fn under_way(world: &World, call: Call) -> UnderWay {
    let api = world.api.clone();
    tokio::spawn(async move { api.call(&call).await.unwrap() })
}

fn make(world: &World, base: &str) -> Vec<UnderWay> {
    let call = || Call::post("sandboxes", json!({ "image": base }));
    (0..COPIES).map(|_| under_way(world, call())).collect()
}

/// It runs and has all that it should, or was refused, or is said to have failed.
async fn check_made(world: &World, answer: &Answer, memory: bool) {
    if !answer.is_success() {
        let said = answer.text("error");
        // As an image that never was, a snapshot that is gone, or one that went while it was looked at.
        assert!(matches!(answer.status, 400 | 404 | 422), "{answer:?}");
        assert!(!said.is_empty());
        return;
    }
    let made = world
        .client
        .sandbox(answer.text("sandbox_id").parse().unwrap());
    match made.get().await.unwrap().status {
        SandboxState::Running => {
            ok(&made, IS_WHOLE).await;
            if memory {
                counts_on(&made).await;
            }
        }
        state => {
            assert_eq!(state, SandboxState::Failed, "{answer:?}");
            let refused = made.run(&shell("true")).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::SandboxNotRunning));
        }
    }
    made.delete().await.unwrap();
}
