//! Forks: their limits, their counts, their tree.

use skerry_control::{CreateRequest, ForkRequest};
use skerry_types::{ErrorCode, FailureReason, SandboxId, SandboxState};

use crate::fake::Fault;
use crate::world::{World, code};

async fn fork(world: &World, parent: SandboxId) -> skerry_types::Result<SandboxId> {
    let request = ForkRequest::default();
    let child = world.control.fork(&world.caller, parent, request).await?;
    assert_eq!(child.status, SandboxState::Running);
    assert_eq!(child.forked_from, Some(parent));
    Ok(child.id)
}

#[tokio::test]
async fn a_child_has_its_own_environment_time_and_name() {
    let world = World::new(3).await;
    let env = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    };
    let parent = world
        .running_with(CreateRequest {
            env: env(&[("A", "1"), ("B", "2")]),
            metadata: env(&[("team", "a"), ("step", "1")]),
            ttl_seconds: Some(50),
            ..CreateRequest::default()
        })
        .await;
    let request = ForkRequest {
        id: None,
        env: env(&[("B", "3"), ("C", "4")]),
        metadata: env(&[("step", "2")]),
        ttl_seconds: Some(70),
        name: Some("child".into()),
        ..ForkRequest::default()
    };
    let child = world
        .control
        .fork(&world.caller, parent, request)
        .await
        .unwrap();
    assert_eq!((child.ttl_seconds, child.fork_depth), (70, 1));
    assert_eq!(child.name.as_deref(), Some("child"));
    assert_eq!(child.env_names, ["A", "B", "C"]);
    assert_eq!(child.metadata, env(&[("team", "a"), ("step", "2")]));
    let inside = world.node.env(child.id).unwrap();
    assert_eq!(inside, env(&[("A", "1"), ("B", "3"), ("C", "4")]));
    assert_eq!(child.facts.unwrap().fork.as_deref(), Some("files"));
    let too_long = ForkRequest {
        ttl_seconds: Some(999_999),
        ..ForkRequest::default()
    };
    let refused = world.control.fork(&world.caller, parent, too_long).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
}

#[tokio::test]
async fn chains_and_broods_have_limits() {
    let world = World::new(30).await;
    let root = world.running().await;
    let mut tip = root;
    for _ in 0..5 {
        tip = fork(&world, tip).await.unwrap();
    }
    assert_eq!(code(fork(&world, tip).await), ErrorCode::ForkDepthExceeded);
    for _ in 1..10 {
        fork(&world, root).await.unwrap();
    }
    assert_eq!(code(fork(&world, root).await), ErrorCode::ForkLimitExceeded);
    assert_eq!(world.get(root).await.fork_count, 10);
}

#[tokio::test]
async fn a_fork_that_fails_does_not_count() {
    let world = World::new(3).await;
    let parent = world.running().await;
    world.node.breaks(Fault::ForkFails);
    let failed = world
        .control
        .fork(&world.caller, parent, ForkRequest::default())
        .await;
    assert!(failed.unwrap_err().message.contains("the snapshot failed"));
    assert_eq!(world.get(parent).await.fork_count, 0);
    let tree = world.control.tree(&world.caller, parent).await.unwrap();
    let child = &tree.members[1];
    assert_eq!(child.status, SandboxState::Failed);
    let reason = world.get(child.id).await.failure_reason;
    assert_eq!(reason, Some(FailureReason::ProvisionFailed));
    world.node.heals(Fault::ForkFails);
    fork(&world, parent).await.unwrap();
    assert_eq!(world.get(parent).await.fork_count, 1);
}

#[tokio::test]
async fn only_a_running_one_forks_and_only_into_a_free_place() {
    let world = World::new(2).await;
    let parent = world.running().await;
    fork(&world, parent).await.unwrap();
    assert_eq!(code(fork(&world, parent).await), ErrorCode::NoCapacity);
    world.control.pause(&world.caller, parent).await.unwrap();
    assert_eq!(
        code(fork(&world, parent).await),
        ErrorCode::SandboxNotRunning
    );
    world.control.delete(&world.caller, parent).await.unwrap();
    assert_eq!(
        code(fork(&world, parent).await),
        ErrorCode::SandboxNotRunning
    );
}

#[tokio::test]
async fn the_tree_is_whole_from_any_member_and_keeps_the_deleted() {
    let world = World::new(9).await;
    let root = world.running().await;
    let left = fork(&world, root).await.unwrap();
    let leaf = fork(&world, left).await.unwrap();
    let right = fork(&world, root).await.unwrap();
    world.control.delete(&world.caller, left).await.unwrap();
    let from_root = world.control.tree(&world.caller, root).await.unwrap();
    assert_eq!(
        from_root,
        world.control.tree(&world.caller, leaf).await.unwrap()
    );
    assert_eq!(from_root.root, root);
    let of = |id| from_root.members.iter().find(|m| m.id == id).unwrap();
    assert_eq!(from_root.members.len(), 4);
    assert_eq!(of(root).children, [left, right]);
    assert_eq!(
        (of(left).status, of(left).children.as_slice()),
        (SandboxState::Deleted, &[leaf][..])
    );
    assert_eq!(of(leaf).forked_from, Some(left));
}
