//! Snapshots: a name stands for one, and nobody sees another's.

use skerry_store::{Privilege, Quotas, Sandbox, Snapshot, StoreError, TakenSnapshot, Tenant};
use skerry_types::{ErrorCode, SnapshotId};

use crate::bed::{Bed, LOCAL, SYSTEM, at, on_both_engines};

on_both_engines! {
    one_is_there_once_its_node_has_it,
    a_name_is_taken_or_taken_over,
    they_take_no_more_of_the_disk_than_they_may,
    nobody_sees_another_orgs,
}

const TAKEN: TakenSnapshot = TakenSnapshot {
    memory: true,
    bytes: 5_000_000_000,
    held_us: 1234,
};

/// A sandbox whose node said what it is.
pub(crate) async fn running(bed: &Bed) -> Sandbox {
    let mut sandbox = bed.running(&LOCAL, 0).await;
    sandbox.facts.driver = Some("ns".to_owned());
    sandbox.facts.privilege = Some(Privilege::Restricted);
    sandbox
}

async fn begin(bed: &Bed, of: &Sandbox, name: Option<&str>) -> Result<SnapshotId, StoreError> {
    let id = SnapshotId::new();
    let name = name.map(str::to_owned);
    let begun = bed.store.begin_snapshot(&LOCAL, id, name, of, at(5)).await;
    begun.map(|begun| {
        assert_eq!((begun.id, begun.ready_at), (id, None));
        id
    })
}

async fn finish(bed: &Bed, id: SnapshotId, name: Option<&str>) -> (Snapshot, Option<SnapshotId>) {
    let finished = bed.store.finish_snapshot(&LOCAL, id, TAKEN, name, at(6));
    finished.await.unwrap().unwrap()
}

async fn listed(bed: &Bed, tenant: &Tenant) -> Vec<SnapshotId> {
    let page = bed.store.snapshots(tenant, None, None, 50).await.unwrap();
    page.items.into_iter().map(|snapshot| snapshot.id).collect()
}

async fn one_is_there_once_its_node_has_it(bed: &Bed) {
    bed.node(9).await;
    let sandbox = running(bed).await;
    let id = begin(bed, &sandbox, Some("warm")).await.unwrap();
    assert_eq!(listed(bed, &LOCAL).await, []);
    assert_eq!(bed.store.snapshot(&LOCAL, id).await.unwrap(), None);
    let node = sandbox.node_id.unwrap();
    assert_eq!(
        bed.store.snapshots_on(&SYSTEM, node).await.unwrap().len(),
        1
    );

    let (ready, replaced) = finish(bed, id, None).await;
    assert_eq!(
        (ready.memory, ready.bytes, ready.held_us),
        (true, 5_000_000_000, 1234)
    );
    assert_eq!(replaced, None);
    let named = bed.store.snapshot_named(&LOCAL, "warm").await.unwrap();
    assert_eq!(named, Some(ready));
    for _ in 0..2 {
        bed.store.forget_snapshot(&LOCAL, id).await.unwrap();
    }
    assert_eq!(bed.store.snapshot(&LOCAL, id).await.unwrap(), None);
    let late = bed.store.finish_snapshot(&LOCAL, id, TAKEN, None, at(7));
    assert_eq!(
        late.await.unwrap(),
        None,
        "what was removed does not come back"
    );
}

async fn a_name_is_taken_or_taken_over(bed: &Bed) {
    bed.node(9).await;
    let sandbox = running(bed).await;
    let first = begin(bed, &sandbox, Some("warm")).await.unwrap();
    let refused = begin(bed, &sandbox, Some("warm")).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::SnapshotNameTaken(_)),
        "{refused}"
    );
    finish(bed, first, None).await;
    let second = begin(bed, &sandbox, None).await.unwrap();
    let (taken_over, replaced) = finish(bed, second, Some("warm")).await;
    assert_eq!(
        (taken_over.name.as_deref(), replaced),
        (Some("warm"), Some(first))
    );
    let old = bed.store.snapshot(&LOCAL, first).await.unwrap().unwrap();
    assert_eq!(old.name, None);
    assert_eq!(listed(bed, &LOCAL).await, [second, first]);
}

async fn they_take_no_more_of_the_disk_than_they_may(bed: &Bed) {
    bed.node(9).await;
    let sandbox = running(bed).await;
    let quotas = Quotas {
        max_snapshot_mb: 5000,
        ..Quotas::DEFAULT
    };
    bed.store
        .set_quotas(&SYSTEM, LOCAL.org(), quotas)
        .await
        .unwrap();
    let first = begin(bed, &sandbox, Some("warm")).await.unwrap();
    finish(bed, first, None).await;
    let second = begin(bed, &sandbox, None).await.unwrap();
    let store = &bed.store;
    let full = store.finish_snapshot(&LOCAL, second, TAKEN, None, at(6));
    let full = full.await.unwrap_err();
    assert!(
        matches!(full, StoreError::SnapshotSpace { limit_mb: 5000 }),
        "{full}"
    );
    assert_eq!(listed(bed, &LOCAL).await, [first], "it is not ready");
    let (instead, _) = finish(bed, second, Some("warm")).await;
    assert_eq!(instead.name.as_deref(), Some("warm"), "of two, one goes");
    let third = begin(bed, &sandbox, None).await.unwrap_err();
    let error = skerry_types::Error::from(third);
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    store.forget_snapshot(&LOCAL, first).await.unwrap();
    store.forget_snapshot(&LOCAL, second).await.unwrap();
    begin(bed, &sandbox, None).await.unwrap();
}

async fn nobody_sees_another_orgs(bed: &Bed) {
    bed.node(9).await;
    let sandbox = running(bed).await;
    let id = begin(bed, &sandbox, Some("warm")).await.unwrap();
    finish(bed, id, None).await;
    let spy = bed.org("spy", Quotas::DEFAULT).await;
    assert_eq!(listed(bed, &spy).await, []);
    assert_eq!(bed.store.snapshot(&spy, id).await.unwrap(), None);
    assert_eq!(bed.store.snapshot_named(&spy, "warm").await.unwrap(), None);
    bed.store.forget_snapshot(&spy, id).await.unwrap();
    let theirs = bed
        .store
        .finish_snapshot(&spy, id, TAKEN, Some("warm"), at(9));
    assert_eq!(theirs.await.unwrap(), None);
    assert_eq!(listed(bed, &LOCAL).await, [id]);
}
