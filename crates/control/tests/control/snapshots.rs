//! Snapshots: on record, on their node, and a source of sandboxes.

use skerry_control::{CreateRequest, SnapshotQuery, SnapshotRequest};
use skerry_proto::node::{MemoryWish, Snapshots, TakeSnapshot};
use skerry_types::{ErrorCode, SandboxId, SnapshotId};

use crate::fake::Fault;
use crate::world::{LOOKALIKE, World, code, eventually};

fn named(name: &str) -> SnapshotRequest {
    SnapshotRequest {
        name: Some(name.to_owned()),
        ..SnapshotRequest::default()
    }
}

impl World {
    async fn take(&self, of: SandboxId, request: SnapshotRequest) -> SnapshotId {
        let taken = self.control.take_snapshot(&self.caller, of, request).await;
        taken.unwrap().id
    }

    async fn listed(&self) -> Vec<SnapshotId> {
        let query = SnapshotQuery::default();
        let page = self.control.snapshots(&self.caller, query).await.unwrap();
        page.snapshots.iter().map(|snapshot| snapshot.id).collect()
    }
}

#[tokio::test]
async fn a_sandbox_from_a_snapshot_is_what_the_snapshot_was() {
    let world = World::new(5).await;
    let parent = world.running().await;
    let snapshot = world.take(parent, named("warm")).await;
    for image in ["warm".to_owned(), snapshot.to_string()] {
        let made = world
            .running_with(CreateRequest {
                image: Some(image),
                ..CreateRequest::default()
            })
            .await;
        let order = world.node.order(made).unwrap();
        assert_eq!(order.snapshot, Some(snapshot));
        assert_eq!(order.resources, world.get(parent).await.resources);
        assert_eq!(world.get(made).await.image, snapshot.to_string());
    }
    let other_driver = CreateRequest {
        image: Some("warm".into()),
        driver: Some("vm".into()),
        ..CreateRequest::default()
    };
    let refused = world.control.create(&world.caller, other_driver).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
}

#[tokio::test]
async fn one_with_memory_keeps_its_size() {
    let world = World::new(5).await;
    let parent = world.running().await;
    let request = SnapshotRequest {
        memory: MemoryWish::Required,
        ..named("warm")
    };
    world.take(parent, request).await;
    let larger = CreateRequest {
        image: Some("warm".into()),
        memory_mb: Some(9999),
        ..CreateRequest::default()
    };
    let refused = world.control.create(&world.caller, larger).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
    let network = world.get(parent).await.network;
    let other = if network == "none" { "nat" } else { "none" };
    let elsewhere = CreateRequest {
        image: Some("warm".into()),
        network: Some(other.into()),
        ..CreateRequest::default()
    };
    let refused = world.control.create(&world.caller, elsewhere).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
}

#[tokio::test]
async fn a_name_is_for_one_and_can_be_taken_over() {
    let world = World::new(5).await;
    let parent = world.running().await;
    let first = world.take(parent, named("warm")).await;
    let again = world
        .control
        .take_snapshot(&world.caller, parent, named("warm"));
    assert_eq!(code(again.await), ErrorCode::Conflict);
    let an_id = first.label();
    for bad in ["", "-x", "a/b", "base", &an_id] {
        let refused = world
            .control
            .take_snapshot(&world.caller, parent, named(bad));
        assert!(refused.await.is_err(), "{bad}");
    }
    assert_eq!(world.node.snapshot_ids(), [first]);
    let over = SnapshotRequest {
        overwrite: true,
        ..named("warm")
    };
    let second = world.take(parent, over).await;
    assert_eq!(
        world.node.snapshot_ids(),
        [second],
        "the one before is gone"
    );
    assert_eq!(world.listed().await, [second]);
}

#[tokio::test]
async fn what_fails_leaves_nothing() {
    let world = World::new(5).await;
    let parent = world.running().await;
    world.node.breaks(Fault::ForkFails);
    let failed = world
        .control
        .take_snapshot(&world.caller, parent, named("warm"));
    assert!(failed.await.is_err());
    world.node.heals(Fault::ForkFails);
    let first = world.take(parent, named("warm")).await;
    world
        .control
        .remove_snapshot(&world.caller, "warm")
        .await
        .unwrap();
    assert!(world.node.snapshot_ids().is_empty() && world.listed().await.is_empty());
    let first = first.to_string();
    let gone = world.control.snapshot(&world.caller, &first);
    assert_eq!(code(gone.await), ErrorCode::NotFound);
}

#[tokio::test]
async fn after_a_crash_record_and_node_agree() {
    let mut world = World::new(5).await;
    let parent = world.running().await;
    let kept = world.take(parent, named("kept")).await;
    let lost = world.take(parent, named("lost")).await;
    world.node.lose_snapshot(lost);
    // Taken by a daemon that died before it wrote that down.
    let order = TakeSnapshot {
        sandbox: parent,
        id: SnapshotId::new(),
        memory: MemoryWish::Auto,
        defaults: None,
    };
    world.node.take_snapshot(order).await.unwrap();
    world.restart().await;
    assert_eq!(world.node.snapshot_ids(), [kept]);
    assert_eq!(world.listed().await, [kept]);
}

#[tokio::test]
async fn one_that_is_taken_during_a_comparison_stays() {
    let world = World::new(5).await;
    let parent = world.running().await;
    world.node.breaks(Fault::SnapshotListIsLate);
    let comparing = tokio::spawn(world.beside());
    // Each of the two asks at its start, and the first again when it begins to follow.
    eventually("all have asked", || world.node.snapshot_lists() == 3).await;
    let taken = world.take(parent, named("warm")).await;
    world.node.heals(Fault::SnapshotListIsLate);
    comparing.await.unwrap().drain().await;
    assert_eq!(world.node.snapshot_ids(), [taken]);
    assert_eq!(world.listed().await, [taken]);
}

#[tokio::test]
async fn a_name_that_reads_as_a_snapshot_is_no_image() {
    let world = World::new(5).await;
    let request = CreateRequest {
        image: Some(SnapshotId::from_uuid(LOOKALIKE).label()),
        ..CreateRequest::default()
    };
    let refused = world.control.create(&world.caller, request).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
}

#[tokio::test]
async fn a_rollback_takes_only_its_own() {
    let world = World::new(5).await;
    let (one, two) = (world.running().await, world.running().await);
    world.take(one, named("warm")).await;
    world
        .control
        .roll_back(&world.caller, one, "warm")
        .await
        .unwrap();
    let refused = world.control.roll_back(&world.caller, two, "warm").await;
    assert_eq!(code(refused), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_sandbox_is_made_where_its_snapshot_is() {
    let world = World::new(2).await;
    let parent = world.running().await;
    let snapshot = world.take(parent, named("warm")).await;
    let warm = || CreateRequest {
        image: Some("warm".into()),
        ..CreateRequest::default()
    };
    // Another node has more room.
    let other = world.another_node(9);
    let both = world.over(vec![world.member(), other.clone()]).await;
    let made = both.create(&world.caller, warm()).await.unwrap();
    eventually("it is made", || world.node.order(made.id).is_some()).await;
    assert_eq!(world.node.order(made.id).unwrap().snapshot, Some(snapshot));
    both.drain().await;
    let without = world.over(vec![other]).await;
    let refused = without.create(&world.caller, warm()).await;
    assert_eq!(code(refused), ErrorCode::NodeUnreachable);
    without.drain().await;
}
