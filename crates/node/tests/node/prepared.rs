//! Places that are prepared for whichever sandbox comes next.

use std::collections::HashSet;
use std::sync::Arc;

use skerry_node::{Node, Options, ReadyLimits};
use skerry_proto::node::{
    CreateSandbox, ForkSandbox, Map, MemoryWish, Sandboxes, Snapshots, TakeSnapshot,
};
use skerry_types::{Egress, ErrorCode, Resources, SandboxId, SnapshotId};

use crate::bed::{Bed, Island, patiently, request};

const EACH: usize = 2;

async fn node(bed: &Bed) -> Arc<Node> {
    let ready = ReadyLimits {
        each: 0,
        memory_mb: 0,
        prepared: EACH,
    };
    let options = Options {
        ready,
        ..bed.options()
    };
    Node::start(options).await.unwrap()
}

/// The places that are nobody's, once there are as many as there may be.
async fn places(bed: &Bed, node: &Node, others: &[SandboxId]) -> HashSet<SandboxId> {
    patiently("places are prepared", || node.prepared() == EACH).await;
    let all = bed.world.sandboxes().into_iter();
    let places: HashSet<_> = all.filter(|id| !others.contains(id)).collect();
    assert_eq!(places.len(), EACH);
    places
}

#[tokio::test]
async fn a_place_becomes_a_sandbox_of_any_kind_or_a_fork_and_no_second_one() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let first = SandboxId::new();
    node.create(request(first)).await.unwrap();
    let before = places(&bed, &node, &[first]).await;

    let other = SandboxId::new();
    let different = CreateSandbox {
        name: Some("own".to_owned()),
        resources: Resources {
            pids: 77,
            ..Resources::FREE_FORM
        },
        ..request(other)
    };
    node.create(different).await.unwrap();
    let fork = SandboxId::new();
    let request = ForkSandbox {
        id: fork,
        parent: first,
        base: None,
        env: Map::new(),
        name: None,
        memory: MemoryWish::None,
        egress: Egress::default(),
    };
    node.fork(request).await.unwrap();
    let taken: Vec<_> = [first].into_iter().chain(before).collect();
    let after = places(&bed, &node, &taken).await;
    assert!(!after.contains(&other) && !after.contains(&fork));
    for id in [other, fork] {
        let node = Arc::clone(&node);
        assert_eq!(Island { node, id }.ok("echo here").await, "here\n");
    }
    node.delete(other).await.unwrap();
    node.delete(fork).await.unwrap();
    node.close().await;
    assert_eq!(bed.world.sandboxes(), [first]);
}

#[tokio::test]
async fn a_place_becomes_what_a_snapshot_is_made_into() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let (first, snapshot) = (SandboxId::new(), SnapshotId::new());
    node.create(request(first)).await.unwrap();
    let take = TakeSnapshot {
        sandbox: first,
        id: snapshot,
        memory: MemoryWish::None,
        defaults: None,
    };
    node.take_snapshot(take).await.unwrap();
    let before = places(&bed, &node, &[first]).await;
    let made = [SandboxId::new(), SandboxId::new()];
    for id in made {
        let of_it = CreateSandbox {
            snapshot: Some(snapshot),
            ..request(id)
        };
        node.create(of_it).await.unwrap();
    }
    let taken: Vec<_> = [first].into_iter().chain(before).collect();
    places(&bed, &node, &taken).await;
    for id in made {
        let node = Arc::clone(&node);
        assert_eq!(Island { node, id }.ok("echo here").await, "here\n");
    }
}

#[tokio::test]
async fn a_place_for_one_that_is_not_begun_goes_away() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let first = SandboxId::new();
    node.create(request(first)).await.unwrap();
    let before = places(&bed, &node, &[first]).await;
    let twin = node.create(request(first)).await.unwrap_err();
    assert_eq!(twin.code, ErrorCode::Conflict);
    patiently("the place of the twin goes away", || {
        let now = bed.world.sandboxes();
        before.iter().any(|place| !now.contains(place))
    })
    .await;
    node.close().await;
    assert_eq!(bed.world.sandboxes(), [first]);
}

#[tokio::test]
async fn the_next_daemon_sweeps_what_was_prepared() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let first = SandboxId::new();
    node.create(request(first)).await.unwrap();
    places(&bed, &node, &[first]).await;
    drop(node);
    let _next = bed.node().await;
    assert_eq!(bed.world.sandboxes(), [first]);
}
