//! Forks: what the child inherits, the limits, the tree.

use skerry_store::{NewFork, Quotas, StoreError};
use skerry_types::{Action, ErrorCode, SandboxId, SandboxState as S};

use crate::bed::{Bed, LOCAL, SYSTEM, at, ids, on_both_engines};

on_both_engines! {
    a_child_inherits,
    many_are_forked_or_none,
    only_a_running_parent_forks,
    depth_is_limited,
    the_count_rises_only_with_success,
    the_tree_is_the_same_from_every_member,
    a_full_node_takes_no_fork,
}

pub(crate) fn new_fork() -> NewFork {
    NewFork {
        id: SandboxId::new(),
        name: None,
        env_names: vec!["EXTRA".into(), "TOKEN".into()],
        ttl_seconds: None,
        metadata: [].into(),
    }
}

async fn a_child_inherits(bed: &Bed) {
    let node = bed.node(9).await;
    let parent = bed.running(&LOCAL, 0).await;
    let fork = NewFork {
        ttl_seconds: Some(60),
        ..new_fork()
    };
    let child = bed
        .store
        .fork_sandbox(&LOCAL, parent.id, fork, at(1))
        .await
        .unwrap();
    assert_eq!((child.state, child.node_id), (S::Provisioning, Some(node)));
    assert_eq!(child.forked_from, Some(parent.id));
    assert_eq!((child.fork_root, child.fork_depth), (parent.id, 1));
    assert_eq!(
        (&child.image, child.resources),
        (&parent.image, parent.resources)
    );
    assert_eq!(child.metadata, parent.metadata);
    assert_eq!(child.env_names, ["EXTRA", "TOKEN"]);
    assert_eq!((child.name, child.ttl_seconds), (None, 60));
    assert_eq!((parent.fork_root, parent.fork_depth), (parent.id, 0));
}

async fn many_are_forked_or_none(bed: &Bed) {
    bed.node(9).await;
    let parent = bed.running(&LOCAL, 0).await;
    let fork = async |count: usize| {
        let forks = (0..count).map(|_| new_fork()).collect();
        let store = &bed.store;
        store.fork_sandboxes(&LOCAL, parent.id, forks, at(1)).await
    };
    assert_eq!(fork(3).await.unwrap().len(), 3);
    let refused = [fork(6).await.unwrap_err(), fork(8).await.unwrap_err()];
    assert!(matches!(refused[0], StoreError::NoCapacity), "{refused:?}");
    assert!(
        matches!(
            refused[1],
            StoreError::ForkLimit { limit: 10 } | StoreError::NoCapacity
        ),
        "{refused:?}"
    );
    let tree = bed.store.fork_tree(&LOCAL, parent.id).await.unwrap();
    assert_eq!(tree.len(), 4, "of those that were refused there is nothing");
}

async fn only_a_running_parent_forks(bed: &Bed) {
    bed.node(9).await;
    let parent = bed.running(&LOCAL, 0).await;
    bed.act(&parent, Action::Stop, 1).await;
    let error = bed
        .store
        .fork_sandbox(&LOCAL, parent.id, new_fork(), at(2))
        .await
        .unwrap_err();
    let code = skerry_types::Error::from(error).code;
    assert_eq!(code, ErrorCode::SandboxNotRunning);
    assert_eq!(
        bed.store.fork_tree(&LOCAL, parent.id).await.unwrap().len(),
        1
    );
}

async fn depth_is_limited(bed: &Bed) {
    bed.node(99).await;
    let mut last = bed.running(&LOCAL, 0).await;
    for depth in 1..=5 {
        let child = bed
            .store
            .fork_sandbox(&LOCAL, last.id, new_fork(), at(depth))
            .await
            .unwrap();
        assert_eq!(i64::from(child.fork_depth), depth);
        last = bed.act(&child, Action::Ready, depth).await;
    }
    let error = bed
        .store
        .fork_sandbox(&LOCAL, last.id, new_fork(), at(9))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::ForkDepth { limit: 5 }));
    let code = skerry_types::Error::from(error).code;
    assert_eq!((code, code.status()), (ErrorCode::ForkDepthExceeded, 422));
}

async fn the_count_rises_only_with_success(bed: &Bed) {
    bed.node(99).await;
    let quotas = Quotas {
        max_forks_per_sandbox: 2,
        ..Quotas::DEFAULT
    };
    bed.store
        .set_quotas(&SYSTEM, LOCAL.org(), quotas)
        .await
        .unwrap();
    let parent = bed.running(&LOCAL, 0).await;
    let fork = || bed.store.fork_sandbox(&LOCAL, parent.id, new_fork(), at(1));
    let count = || async {
        let row = bed.store.sandbox(&LOCAL, parent.id).await.unwrap();
        row.fork_count
    };
    let failed = fork().await.unwrap();
    bed.act(&failed, Action::Fail, 2).await;
    assert_eq!(count().await, 0);

    let first = fork().await.unwrap();
    let lost = fork().await.unwrap();
    assert!(matches!(
        fork().await,
        Err(StoreError::ForkLimit { limit: 2 })
    ));
    let first = bed.act(&first, Action::Ready, 3).await;
    assert_eq!(count().await, 1);
    let paused = bed.act(&first, Action::Pause, 4).await;
    bed.act(&paused, Action::Resume, 5).await;
    assert_eq!(count().await, 1, "it came to run once");

    let lost = bed.act(&lost, Action::Lose, 6).await;
    let found = bed.act(&lost, Action::Find, 7).await;
    assert_eq!((count().await, found.started_at), (2, Some(at(7))));
    bed.act(&found, Action::Delete, 8).await;
    assert!(matches!(
        fork().await,
        Err(StoreError::ForkLimit { limit: 2 })
    ));
    assert_eq!(count().await, 2);
}

async fn the_tree_is_the_same_from_every_member(bed: &Bed) {
    bed.node(99).await;
    bed.running(&LOCAL, 0).await;
    let root = bed.running(&LOCAL, 0).await;
    let mut made = vec![root.id];
    for parent in [0, 0, 1, 3] {
        let child = bed
            .store
            .fork_sandbox(&LOCAL, made[parent], new_fork(), at(1))
            .await
            .unwrap();
        made.push(bed.act(&child, Action::Ready, 1).await.id);
    }
    bed.act(&root, Action::Delete, 2).await;
    assert_eq!(bed.store.purge_deleted(&SYSTEM, at(3)).await.unwrap(), 0);
    for member in &made {
        let tree = bed.store.fork_tree(&LOCAL, *member).await.unwrap();
        assert_eq!(ids(&tree), made);
        assert_eq!(tree[0].state, S::Deleted);
        assert_eq!(tree[4].forked_from, Some(made[3]));
    }
    for sandbox in bed.store.fork_tree(&LOCAL, root.id).await.unwrap() {
        bed.act(&sandbox, Action::Delete, 4).await;
    }
    assert_eq!(bed.store.purge_deleted(&SYSTEM, at(5)).await.unwrap(), 5);
}

async fn a_full_node_takes_no_fork(bed: &Bed) {
    bed.node(1).await;
    let parent = bed.running(&LOCAL, 0).await;
    let error = bed
        .store
        .fork_sandbox(&LOCAL, parent.id, new_fork(), at(1))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::NoCapacity));
}
