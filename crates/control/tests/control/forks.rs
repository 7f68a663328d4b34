//! Forks: their limits, their counts, their tree.

use skerry_control::{Attempt, CreateRequest, ForkRequest, Forks, TreeMember};
use skerry_store::{LOCAL_NODE, Quotas};
use skerry_types::{ErrorCode, FailureReason, SandboxId, SandboxState};

use crate::fake::Fault;
use crate::world::{SYSTEM, World, code};

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
    let (store, org) = (&world.store, world.caller.tenant.org());
    let quotas = Quotas {
        max_forks_per_sandbox: 10,
        ..Quotas::LOCAL
    };
    store.set_quotas(&SYSTEM, org, quotas).await.unwrap();
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

async fn fork_many(world: &World, parent: SandboxId, count: u32) -> skerry_types::Result<Forks> {
    let request = ForkRequest {
        name: Some("try".into()),
        ..ForkRequest::default()
    };
    let (control, caller) = (&world.control, &world.caller);
    control
        .fork_many(caller, parent, count, request, Attempt::first())
        .await
}

#[tokio::test]
async fn several_come_from_one_instant_and_leave_no_snapshot() {
    let world = World::new(9).await;
    let parent = world.running().await;
    let forks = fork_many(&world, parent, 5).await.unwrap();
    assert_eq!((forks.children.len(), forks.held_us), (5, Some(10)));
    let bases = world.node.bases();
    assert_eq!(bases.len(), 5);
    assert!(bases.iter().all(|base| base.is_some() && *base == bases[0]));
    for (number, (id, made)) in (1..).zip(forks.children) {
        let child = made.unwrap();
        assert_eq!((child.id, child.status), (id, SandboxState::Running));
        assert_eq!(child.name, Some(format!("try-{number}")));
    }
    assert_eq!(world.get(parent).await.fork_count, 5);
    assert_eq!(world.node.snapshot_ids(), []);
    let on_record = world.store.snapshots_on(&SYSTEM, LOCAL_NODE).await;
    assert_eq!(on_record.unwrap(), []);
}

#[tokio::test]
async fn of_several_all_have_a_place_or_none_is_made() {
    let world = World::new(4).await;
    let parent = world.running().await;
    assert_eq!(
        code(fork_many(&world, parent, 4).await),
        ErrorCode::NoCapacity
    );
    let many = fork_many(&world, parent, 101).await;
    assert_eq!(code(many), ErrorCode::ValidationError);
    assert_eq!(
        code(fork_many(&world, parent, 0).await),
        ErrorCode::ValidationError
    );
    let tree = world.control.tree(&world.caller, parent).await.unwrap();
    assert_eq!(tree.members.len(), 1);
    world.node.breaks(Fault::ForkFails);
    let failed = fork_many(&world, parent, 3).await.unwrap_err();
    assert!(failed.message.contains("the snapshot failed"));
    world.node.heals(Fault::ForkFails);
    let tree = world.control.tree(&world.caller, parent).await.unwrap();
    let failed = |m: &&TreeMember| m.status == SandboxState::Failed;
    assert_eq!(tree.members.iter().filter(failed).count(), 3);
    fork_many(&world, parent, 3).await.unwrap();
}

#[tokio::test]
async fn one_of_several_that_is_called_off_takes_no_other_with_it() {
    let world = World::new(9).await;
    let parent = world.running().await;
    world.node.breaks(Fault::CreateHangs);
    let making = fork_many(&world, parent, 6);
    let call_off = async {
        let child = loop {
            let tree = world.control.tree(&world.caller, parent).await.unwrap();
            match tree.members.last() {
                Some(last) if last.id != parent => break last.id,
                _ => tokio::task::yield_now().await,
            }
        };
        world.control.delete(&world.caller, child).await.unwrap();
        world.node.heals(Fault::CreateHangs);
        child
    };
    let (forks, gone) = tokio::join!(making, call_off);
    for (id, made) in forks.unwrap().children {
        assert_eq!(made.is_err(), id == gone);
    }
    assert_eq!(world.node.ids().len(), 6);
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
