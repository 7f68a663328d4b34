//! Links that break and readers that do not read: bytes and ends stay what they are.

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skerry_proto::node::{ExecEventBody, Execs, StartExec};
use skerry_types::ExecEnd;

use crate::bed::{Bed, counted, sh};

const CUTS: usize = 1000;

#[tokio::test(start_paused = true)]
async fn a_thousand_cuts_at_random_bytes_change_nothing() {
    const LINES: u32 = 2_500_000;
    let bed = Bed::new().await;
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cuts: Vec<u64> = (0..CUTS).map(|_| random.random_range(0..30_000)).collect();
    bed.world.script(|script| script.cuts.extend(cuts));
    let island = bed.island().await;
    let exec = island.start(sh(&format!("seq 1 {LINES}; exit 3"))).await;
    let finished = island.finish(exec).await;
    assert_eq!(finished.end, ExecEnd::Exited { code: 3 });
    assert!(finished.stdout == counted(LINES), "other bytes");
    let left = bed.world.script(|script| script.cuts.len());
    assert_eq!(left, 0, "the output was over before the cuts were");
}

#[tokio::test(start_paused = true)]
async fn input_survives_cuts_without_loss_or_repetition() {
    let bed = Bed::new().await;
    let mut random = StdRng::seed_from_u64(7);
    let cuts: Vec<u64> = (0..200).map(|_| random.random_range(0..150_000)).collect();
    bed.world.script(|script| script.cuts.extend(cuts));
    let island = bed.island().await;
    let input: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let exec = island
        .start(StartExec {
            stdin: true,
            ..sh("cat")
        })
        .await;
    island.stdin(exec, &input, true).await;
    let finished = island.finish(exec).await;
    assert_eq!(finished.end, ExecEnd::Exited { code: 0 });
    assert!(
        finished.stdout == input,
        "{} other bytes",
        finished.stdout.len()
    );
}

#[tokio::test(start_paused = true)]
async fn connects_that_fail_are_tried_again() {
    let bed = Bed::new().await;
    bed.world.script(|script| script.refuse_connects = 25);
    let island = bed.island().await;
    assert_eq!(island.ok("echo through").await, "through\n");
}

#[tokio::test(start_paused = true)]
async fn nobody_reading_holds_nothing_up_and_loses_nothing() {
    const LINES: u32 = 300_000;
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island
        .start(sh(&format!("seq 1 {LINES}; echo done > /tmp/done")))
        .await;
    // One that reads an event and then no more.
    let mut stuck = island
        .node
        .exec_events(island.id, exec, 0, true)
        .await
        .unwrap();
    stuck.next().await.unwrap().unwrap();
    let other = island.ok("echo other").await;
    assert_eq!(other, "other\n");
    assert!(island.finish(exec).await.stdout == counted(LINES));
    let mut late = Vec::new();
    while let Some(event) = stuck.next().await {
        if let ExecEventBody::Stdout(data) = event.unwrap().body {
            late.extend_from_slice(&data);
        }
    }
    assert!(
        counted(LINES).ends_with(&late),
        "the slow reader lost something"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_on_from_any_event() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    // More than is read from the journal at once.
    let exec = island.start(sh("seq 1 100000; exit 4")).await;
    let all: Vec<_> = island
        .node
        .exec_events(island.id, exec, 0, true)
        .await
        .unwrap()
        .collect()
        .await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    for after in 0..=all.len() {
        let rest = island
            .node
            .exec_events(island.id, exec, after as u64, false)
            .await
            .unwrap();
        let rest: Vec<_> = rest.map(Result::unwrap).collect().await;
        assert_eq!(rest, all[after..], "after event {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_claims_more_than_there_is_ends_with_the_exec() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island
        .start(StartExec {
            stdin: true,
            ..sh("cat")
        })
        .await;
    let ahead = island.node.exec_events(island.id, exec, 1000, true).await;
    let ahead = ahead.unwrap().collect::<Vec<_>>();
    let (rest, ()) = tokio::join!(ahead, island.stdin(exec, b"all there is", true));
    assert!(rest.is_empty(), "{rest:?}");
}
