//! Random lives: whatever is asked, the row says what the pure transition function says, and its times agree with its state.

use proptest::prelude::*;
use skerry_store::{Change, LOCAL_NODE, Sandbox, StoreError};
use skerry_types::{Action, SandboxState as S, state};

use crate::bed::{Bed, LOCAL, at, new_sandbox};

#[test]
fn sqlite() {
    with_runtime(async { check(&Bed::sqlite().await, 64).await });
}

#[test]
fn postgres() {
    with_runtime(async {
        if let Some(bed) = Bed::postgres().await {
            check(&bed, 32).await;
        }
    });
}

fn with_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

async fn check(bed: &Bed, cases: u32) {
    bed.node(1).await;
    let lives = proptest::collection::vec(proptest::sample::select(&Action::ALL), 1..12);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    };
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        proptest!(config, |(is_placed: bool, life in lives)| {
            handle.block_on(live(bed, is_placed, &life));
        });
    });
}

async fn live(bed: &Bed, is_placed: bool, life: &[Action]) {
    let node = is_placed.then_some(LOCAL_NODE);
    let made = bed.store.create_sandbox(&LOCAL, new_sandbox(), node, at(0));
    let mut row = made.await.unwrap();
    for (&action, second) in life.iter().zip(1..) {
        let wanted = state::next(row.state, action);
        let change = Change::default();
        let acted = bed.store.act(&LOCAL, row.id, action, &change, at(second));
        let got = acted.await;
        match (wanted, got) {
            (Ok(to), Ok(after)) => {
                assert_eq!(after.state, to);
                row = after;
            }
            (Err(why), Err(StoreError::Illegal(told))) => assert_eq!(why, told),
            (Ok(_), Err(StoreError::NeverRan)) => assert!(has_never_run(&row)),
            (wanted, got) => panic!("{wanted:?}, but {got:?}"),
        }
        assert_eq!(bed.store.sandbox(&LOCAL, row.id).await.unwrap(), row);
        times_agree(&row);
    }
    bed.store
        .act(&LOCAL, row.id, Action::Delete, &Change::default(), at(99))
        .await
        .unwrap();
}

fn has_never_run(row: &Sandbox) -> bool {
    row.node_id.is_none() || row.started_at.is_none()
}

fn times_agree(row: &Sandbox) {
    assert_eq!(row.ended_at.is_some(), row.state.is_ended());
    assert_eq!(row.deleted_at.is_some(), row.state == S::Deleted);
    // One that begins again ages anew once it runs.
    assert!(row.expires_at.is_none() || row.started_at.is_some());
    if matches!(row.state, S::Running | S::Paused) {
        assert!(row.expires_at.is_some());
    }
}
