//! Sandboxes that stand ready on real drivers: nobody is given one that somebody has, one that is dead, or one that still is what its original was.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use skerry_client::api::{CreateSandbox, MemoryWish, TakeSnapshot};
use skerry_client::{ListSandboxes, Sandbox};
use skerry_testkit::host;

use crate::copies::{
    check_clock, counts_on, is_slow, its_own, plant_key, start_counter, with_memory, with_tools,
};
use crate::hearts::place;
use crate::world::{World, is_long, launch, rounds};

/// As many as stand ready of one kind, and are asked for at once.
const READY: usize = 3;
/// Whoever asks for so long was given one that stood ready: what was stopped while it was made is given up by then.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_stands_ready_is_handed_out_once_alive_and_made_new() {
    let launch = with_tools(launch()).env("SKERRY_READY", &READY);
    let world = World::launch(launch).await;
    let originals = with_memory(&world).await.into_iter();
    for original in originals.take(rounds(1, usize::MAX)) {
        start_counter(&original).await;
        plant_key(&original).await;
        let request = TakeSnapshot {
            memory: MemoryWish::Required,
            ..TakeSnapshot::default()
        };
        let base = original.take_snapshot(&request).await.unwrap();
        let base = base.snapshot_id.to_string();
        let mut given = Vec::new();
        let times = if is_slow(&original).await {
            1
        } else {
            rounds(1, 5)
        };
        for _ in 0..times {
            given.push(one_that_stood_ready(&world, &base).await);
            given.extend(join_all((0..READY).map(|_| make(&world, &base))).await);
        }
        signal_those_that_stand(&world, "KILL").await;
        given.extend(join_all((0..READY).map(|_| make(&world, &base))).await);
        if is_long() {
            // Their agents answer nobody, so they cannot be made new.
            given.push(one_that_stood_ready(&world, &base).await);
            signal_those_that_stand(&world, "STOP").await;
            given.extend(join_all((0..READY).map(|_| make(&world, &base))).await);
        }
        let mut own = BTreeSet::new();
        for sandbox in given {
            counts_on(&sandbox).await;
            check_clock(&sandbox).await;
            for value in its_own(&sandbox).await {
                assert!(own.insert(value.clone()), "{value} of two");
            }
            sandbox.delete().await.unwrap();
        }
        world.client.remove_snapshot(&base).await.unwrap();
        counts_on(&original).await;
        original.delete().await.unwrap();
    }
    world.end_server().await;
}

async fn make(world: &World, base: &str) -> Sandbox {
    let wishes = CreateSandbox {
        image: Some(base.to_owned()),
        ..CreateSandbox::default()
    };
    world.make(&wishes).await
}

/// Asks until it is given one; those that were made meanwhile go.
async fn one_that_stood_ready(world: &World, base: &str) -> Sandbox {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let sandbox = make(world, base).await;
        let events = sandbox.events(None).await.unwrap().events;
        let ready = events.iter().find(|event| event.kind == "sandbox.ready");
        if ready.unwrap().data["steps"][0]["name"] == "stood ready" {
            return sandbox;
        }
        counts_on(&sandbox).await;
        sandbox.delete().await.unwrap();
    }
    panic!("none ever stood ready");
}

/// Has a signal sent to all that nobody has yet.
async fn signal_those_that_stand(world: &World, name: &str) {
    let all = world.client.list_all(ListSandboxes::default()).await;
    let all = all.unwrap().into_iter();
    let had: BTreeSet<String> = all
        .filter_map(|record| place(world, record.sandbox_id))
        .collect();
    for (label, heart) in world.server.hearts() {
        if !had.contains(&label) {
            host::signal(heart, name);
        }
    }
}
