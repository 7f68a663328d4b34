//! Idempotency keys: one does it, the others are told; only a success is remembered, and not for ever.

use skerry_store::{Begun, Claim, Quotas, Tenant};
use tokio::task::JoinSet;

use crate::bed::{Bed, LOCAL, SYSTEM, at, on_both_engines};

on_both_engines! {
    the_second_gets_the_first_answer,
    another_request_with_the_key_is_told,
    only_a_success_is_kept,
    orgs_do_not_share_keys,
    a_key_is_forgotten_after_a_day,
    a_dead_first_gives_way_and_cannot_come_back,
    what_a_dead_owner_began_goes_on_with_its_id,
    of_many_at_once_one_is_first,
}

const DAY: i64 = 24 * 3600;

async fn begin(bed: &Bed, tenant: &Tenant, hash: u8, seconds: i64) -> Begun {
    bed.store
        .begin_idempotent(tenant, "k", [hash; 32], "here", at(seconds))
        .await
        .unwrap()
}

async fn first(bed: &Bed, tenant: &Tenant, seconds: i64) -> Claim {
    match begin(bed, tenant, 1, seconds).await {
        Begun::First(claim) => claim,
        other => panic!("{other:?}"),
    }
}

async fn finish(bed: &Bed, claim: Claim, status: u16, body: &[u8]) {
    bed.store
        .finish_idempotent(claim, status, body)
        .await
        .unwrap();
}

async fn replayed(bed: &Bed, seconds: i64) -> (u16, Vec<u8>) {
    match begin(bed, &LOCAL, 1, seconds).await {
        Begun::Replay { status, body } => (status, body),
        other => panic!("{other:?}"),
    }
}

async fn the_second_gets_the_first_answer(bed: &Bed) {
    let claim = first(bed, &LOCAL, 0).await;
    assert!(matches!(begin(bed, &LOCAL, 1, 1).await, Begun::InProgress));
    finish(bed, claim, 201, b"{\"\xff\0").await;
    assert_eq!(replayed(bed, 2).await, (201, b"{\"\xff\0".to_vec()));
    assert_eq!(replayed(bed, DAY).await.0, 201);
}

async fn another_request_with_the_key_is_told(bed: &Bed) {
    let claim = first(bed, &LOCAL, 0).await;
    assert!(matches!(
        begin(bed, &LOCAL, 2, 1).await,
        Begun::OtherRequest
    ));
    finish(bed, claim, 200, b"").await;
    assert!(matches!(
        begin(bed, &LOCAL, 2, 2).await,
        Begun::OtherRequest
    ));
}

async fn only_a_success_is_kept(bed: &Bed) {
    for status in [199, 300, 409, 500] {
        let claim = first(bed, &LOCAL, 0).await;
        finish(bed, claim, status, b"no").await;
    }
    let claim = first(bed, &LOCAL, 0).await;
    bed.store.abandon_idempotent(claim).await.unwrap();
    let claim = first(bed, &LOCAL, 1).await;
    finish(bed, claim, 299, b"yes").await;
    assert_eq!(replayed(bed, 2).await.0, 299);
}

async fn orgs_do_not_share_keys(bed: &Bed) {
    let other = bed.org("other", Quotas::DEFAULT).await;
    let claim = first(bed, &LOCAL, 0).await;
    finish(bed, claim, 200, b"mine").await;
    drop(first(bed, &other, 1).await);
}

async fn a_key_is_forgotten_after_a_day(bed: &Bed) {
    let claim = first(bed, &LOCAL, 0).await;
    finish(bed, claim, 200, b"").await;
    let purge = |seconds| bed.store.purge_idempotency_keys(&SYSTEM, at(seconds));
    assert_eq!(purge(DAY).await.unwrap(), 0);
    assert_eq!(replayed(bed, DAY).await.0, 200);
    drop(first(bed, &LOCAL, DAY + 1).await);
    assert_eq!(purge(2 * DAY + 2).await.unwrap(), 1);
}

async fn a_dead_first_gives_way_and_cannot_come_back(bed: &Bed) {
    let dead = first(bed, &LOCAL, 0).await;
    assert!(matches!(
        begin(bed, &LOCAL, 1, 900).await,
        Begun::InProgress
    ));
    let second = first(bed, &LOCAL, 901).await;
    finish(bed, dead, 200, b"late").await;
    finish(bed, second, 200, b"right").await;
    assert_eq!(replayed(bed, 902).await.1, b"right");
}

async fn what_a_dead_owner_began_goes_on_with_its_id(bed: &Bed) {
    let dead = first(bed, &LOCAL, 0).await;
    assert!(!dead.again);
    let release = |owner| bed.store.release_claims(&SYSTEM, owner);
    assert_eq!(release("elsewhere").await.unwrap(), 0);
    assert!(matches!(begin(bed, &LOCAL, 1, 1).await, Begun::InProgress));
    assert_eq!(release("here").await.unwrap(), 1);
    assert!(matches!(
        begin(bed, &LOCAL, 2, 2).await,
        Begun::OtherRequest
    ));
    let heir = first(bed, &LOCAL, 3).await;
    assert_eq!((heir.id, heir.again), (dead.id, true));
    assert!(matches!(begin(bed, &LOCAL, 1, 4).await, Begun::InProgress));
    finish(bed, dead, 200, b"late").await;
    finish(bed, heir, 200, b"right").await;
    assert_eq!(release("here").await.unwrap(), 0);
    assert_eq!(replayed(bed, 5).await.1, b"right");
    let next_day = first(bed, &LOCAL, DAY + 4).await;
    assert!(!next_day.again);
}

async fn of_many_at_once_one_is_first(bed: &Bed) {
    let mut begins = JoinSet::new();
    for _ in 0..40 {
        let store = bed.store.clone();
        begins.spawn(async move {
            store
                .begin_idempotent(&LOCAL, "k", [1; 32], "here", at(0))
                .await
                .unwrap()
        });
    }
    let begun = begins.join_all().await;
    let count = |wanted: fn(&Begun) -> bool| begun.iter().filter(|b| wanted(b)).count();
    assert_eq!(count(|b| matches!(b, Begun::First(_))), 1);
    assert_eq!(count(|b| matches!(b, Begun::InProgress)), 39);
}
