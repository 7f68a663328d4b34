//! Many at once: limits hold exactly and no state is ever illegal.

use skerry_store::{Change, Quotas, Store, StoreError};
use skerry_types::{Action, SandboxId, SandboxState as S};
use tokio::task::JoinSet;

use crate::bed::{Bed, LOCAL, at, new_sandbox, on_both_engines};
use crate::forks::new_fork;

on_both_engines! {
    a_hundred_creates_on_a_quota_of_ten,
    creates_share_the_slots_of_a_node,
    thirty_forks_on_a_limit_of_ten,
    one_of_many_equal_changes_wins,
    stop_delete_and_fork_at_once,
}

async fn a_hundred_creates_on_a_quota_of_ten(bed: &Bed) {
    let tenant = bed.org("small", Quotas::DEFAULT).await;
    let mut creates = JoinSet::new();
    for _ in 0..100 {
        let store = bed.store.clone();
        creates.spawn(async move {
            store
                .create_sandbox(&tenant, new_sandbox(), None, at(0))
                .await
        });
    }
    let (made, refused): (Vec<_>, Vec<_>) = creates
        .join_all()
        .await
        .into_iter()
        .partition(Result::is_ok);
    assert_eq!(made.len(), 10);
    for error in refused.into_iter().filter_map(Result::err) {
        assert!(
            matches!(error, StoreError::Quota { limit: 10 }),
            "{error:?}"
        );
    }
    let one = made.into_iter().flatten().next().unwrap();
    bed.act(&one, Action::Stop, 1).await;
    bed.queued(&tenant, 2).await;
}

async fn creates_share_the_slots_of_a_node(bed: &Bed) {
    let node = bed.node(7).await;
    let mut creates = JoinSet::new();
    for _ in 0..50 {
        let store = bed.store.clone();
        creates.spawn(async move {
            let new = new_sandbox();
            store.create_sandbox(&LOCAL, new, Some(node), at(0)).await
        });
    }
    let made = creates.join_all().await;
    let in_state = |state| {
        let made = made.iter().flatten();
        made.filter(|sandbox| sandbox.state == state).count()
    };
    assert_eq!(in_state(S::Provisioning), 7);
    assert_eq!(in_state(S::Queued), 43);
    assert_eq!(bed.held(node).await, 7);
}

async fn thirty_forks_on_a_limit_of_ten(bed: &Bed) {
    bed.node(99).await;
    let quotas = Quotas {
        max_concurrent_sandboxes: 99,
        ..Quotas::DEFAULT
    };
    let tenant = bed.org("forks", quotas).await;
    let parent = bed.running(&tenant, 0).await;
    let mut forks = JoinSet::new();
    for _ in 0..30 {
        let (store, id) = (bed.store.clone(), parent.id);
        forks.spawn(async move {
            let child = store.fork_sandbox(&tenant, id, new_fork(), at(1)).await?;
            store
                .act(&tenant, child.id, Action::Ready, &Change::default(), at(2))
                .await
        });
    }
    let made = forks.join_all().await.into_iter().flatten().count();
    assert_eq!(made, 10);
    let row = bed.store.sandbox(&tenant, parent.id).await.unwrap();
    assert_eq!(row.fork_count, 10);
}

async fn one_of_many_equal_changes_wins(bed: &Bed) {
    bed.node(1).await;
    let runs = bed.running(&LOCAL, 0).await;
    let mut changes = JoinSet::new();
    for _ in 0..20 {
        let (store, runs) = (bed.store.clone(), runs.clone());
        changes.spawn(async move {
            store
                .transition(&LOCAL, &runs, Action::Pause, &Change::default(), at(1))
                .await
                .unwrap()
        });
    }
    let done = changes.join_all().await;
    let winners = done
        .iter()
        .filter(|cas| matches!(cas, skerry_store::Cas::Done(_)))
        .count();
    assert_eq!(winners, 1);
}

async fn stop_delete_and_fork_at_once(bed: &Bed) {
    bed.node(99).await;
    for round in 0..10 {
        let parent = bed.running(&LOCAL, round).await;
        let (stop, delete, fork) = tokio::join!(
            tokio::spawn(act(bed.store.clone(), parent.id, Action::Stop)),
            tokio::spawn(act(bed.store.clone(), parent.id, Action::Delete)),
            tokio::spawn(fork(bed.store.clone(), parent.id)),
        );
        stop.unwrap().unwrap();
        delete.unwrap().unwrap();
        let after = bed.store.sandbox(&LOCAL, parent.id).await.unwrap();
        assert_eq!(after.state, S::Deleted);
        assert!(after.deleted_at.is_some() && after.ended_at.is_some());
        match fork.unwrap() {
            Ok(child) => {
                bed.act(&child, Action::Delete, round).await;
            }
            Err(error) => assert!(matches!(error, StoreError::NotRunning(_)), "{error:?}"),
        }
    }
}

async fn act(
    store: Store,
    id: SandboxId,
    action: Action,
) -> Result<skerry_store::Sandbox, StoreError> {
    store
        .act(&LOCAL, id, action, &Change::default(), at(50))
        .await
}

async fn fork(store: Store, parent: SandboxId) -> Result<skerry_store::Sandbox, StoreError> {
    store.fork_sandbox(&LOCAL, parent, new_fork(), at(50)).await
}
