//! Queues, age limits, programs that do not listen, and a change of mind halfway.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use skerry_client::api::{CreateSandbox, OnTimeout};
use skerry_client::{ListSandboxes, shell};
use skerry_types::{ExecEnd, FailureReason, SandboxId, SandboxState};

use crate::api::{Answer, Call};
use crate::output::Transcript;
use crate::world::{World, dice, launch, moment, rounds};

const SLOTS: usize = 8;
const CREATES: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_creates_on_eight_places_run_in_turn() {
    let world = World::launch(launch().env("SKERRY_SLOTS", &SLOTS)).await;
    let creates: Vec<_> = (0..CREATES)
        .map(|_| {
            let client = world.client.clone();
            tokio::spawn(async move { client.create(&CreateSandbox::default()).await.unwrap() })
        })
        .collect();
    for create in creates {
        let made = create.await.unwrap();
        assert!(
            matches!(made.status, SandboxState::Running | SandboxState::Queued),
            "{made:?}"
        );
    }
    let mut ran = BTreeSet::new();
    while ran.len() < CREATES {
        let (running, next) = world
            .eventually("every place is taken", async || {
                places(&world, CREATES - ran.len()).await
            })
            .await;
        ran.insert(running[0]);
        world.client.sandbox(running[0]).delete().await.unwrap();
        if let Some(next) = next {
            let in_turn = world.client.sandbox(next).wait_running(60).await.unwrap();
            assert_eq!(in_turn.queue_position, None);
        }
    }
    world.end().await;
}

/// What runs, and who is first in the queue, once as many run as may.
async fn places(world: &World, left: usize) -> Option<(Vec<SandboxId>, Option<SandboxId>)> {
    let all = world
        .client
        .list_all(ListSandboxes::default())
        .await
        .unwrap();
    assert_eq!(all.len(), left);
    let of = |state| all.iter().filter(move |record| record.status == state);
    let running: Vec<_> = of(SandboxState::Running)
        .map(|record| record.sandbox_id)
        .collect();
    let on_host = std::fs::read_dir(world.server.records()).unwrap().count();
    assert!(
        running.len() <= SLOTS && on_host <= SLOTS,
        "{} run, {on_host} are there",
        running.len()
    );
    let first =
        of(SandboxState::Queued).min_by_key(|record| (record.created_at, record.sandbox_id));
    if let Some(first) = first {
        assert_eq!(
            first.queue_position,
            Some(1),
            "not the one that has waited longest"
        );
    }
    (running.len() == SLOTS.min(left)).then(|| (running, first.map(|record| record.sandbox_id)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_age_limit_ends_a_sandbox_and_what_runs_in_it() {
    let world = World::start().await;
    let wishes = CreateSandbox {
        ttl_seconds: Some(2),
        ..CreateSandbox::default()
    };
    let stopped = world.make(&wishes).await;
    let exec = stopped
        .start(&shell("echo here; sleep 1000"))
        .await
        .unwrap()
        .exec_id;
    let deleted = world
        .make(&CreateSandbox {
            on_timeout: Some(OnTimeout::Delete),
            ..wishes
        })
        .await;
    let heard = Transcript::read(&stopped, exec).await;
    assert_eq!(heard.stdout, b"here\n");
    assert_eq!(heard.exit.unwrap().end, ExecEnd::SandboxStopped);
    let record = stopped.wait_ended(60).await.unwrap();
    assert_eq!(record.status, SandboxState::Stopped);
    assert_eq!(record.failure_reason, Some(FailureReason::TtlExceeded));
    world
        .eventually("the other one is deleted", async || {
            let left = world
                .client
                .list_all(ListSandboxes::default())
                .await
                .unwrap();
            left.iter()
                .all(|record| record.sandbox_id != deleted.id())
                .then_some(())
        })
        .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_program_that_ignores_term_is_stopped_all_the_same() {
    let world = World::start().await;
    let sandbox = world.sandbox().await;
    let deaf = "trap '' TERM INT HUP; echo deaf; while :; do sleep 0.1; done";
    let exec = sandbox.start(&shell(deaf)).await.unwrap().exec_id;
    let mut events = sandbox.follow(exec, 0);
    assert_eq!(
        events.next().await.unwrap().unwrap().data.as_deref(),
        Some("deaf\n")
    );
    sandbox.stop().await.unwrap();
    assert_eq!(
        sandbox.wait_ended(60).await.unwrap().status,
        SandboxState::Stopped
    );
    let heard = Transcript::read(&sandbox, exec).await;
    assert_eq!(heard.exit.unwrap().end, ExecEnd::SandboxStopped);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_deleted_while_it_is_made_is_gone() {
    let (world, mut dice) = (World::start().await, dice());
    for _ in 0..rounds(15, 200) {
        let call = Call::post("sandboxes", json!({}));
        let api = world.api.clone();
        let create = tokio::spawn(async move { api.call(&call).await.unwrap() });
        tokio::time::sleep(moment(&mut dice, Duration::from_millis(50))).await;
        for record in world
            .client
            .list_all(ListSandboxes::default())
            .await
            .unwrap()
        {
            world
                .client
                .sandbox(record.sandbox_id)
                .delete()
                .await
                .unwrap();
        }
        check_answer(&world, &create.await.unwrap()).await;
    }
    world.end().await;
}

/// A create that was overtaken says so; one that was not made a sandbox.
async fn check_answer(world: &World, answer: &Answer) {
    if !answer.is_success() {
        assert!(matches!(answer.status, 404 | 409 | 410), "{answer:?}");
        return;
    }
    let found = world
        .api
        .get(&format!("sandboxes/{}", answer.text("sandbox_id")))
        .await;
    let state = if found.status == 404 {
        "deleted"
    } else {
        found.text("status")
    };
    assert!(
        matches!(state, "running" | "deleted"),
        "{answer:?} and then {found:?}"
    );
}
