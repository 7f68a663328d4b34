//! Volumes: on record until their node has them no more, and nobody sees another's.

use skerry_store::{Mounted, NewVolume, Quotas, StoreError, Tenant, Volume};
use skerry_types::{Action, ErrorCode, VolumeId};

use crate::bed::{Bed, LOCAL, SYSTEM, at, new_sandbox, on_both_engines};

on_both_engines! {
    one_is_there_until_it_is_retired,
    they_hold_no_more_together_than_they_may,
    whoever_has_one_is_known_until_it_is_deleted,
    nobody_sees_another_orgs_volume,
}

fn new_volume(name: &str, size_mb: u32) -> NewVolume {
    NewVolume {
        id: VolumeId::new(),
        name: name.to_owned(),
        node_id: skerry_store::LOCAL_NODE,
        size_mb,
    }
}

async fn make(bed: &Bed, tenant: &Tenant, name: &str, size_mb: u32) -> Result<Volume, StoreError> {
    let new = new_volume(name, size_mb);
    bed.store.create_volume(tenant, new, at(5)).await
}

async fn listed(bed: &Bed, tenant: &Tenant) -> Vec<VolumeId> {
    let page = bed.store.volumes(tenant, None, 50).await.unwrap();
    page.items.into_iter().map(|volume| volume.id).collect()
}

async fn one_is_there_until_it_is_retired(bed: &Bed) {
    let store = &bed.store;
    let first = make(bed, &LOCAL, "data", 100).await.unwrap();
    assert_eq!(
        store.volume(&LOCAL, first.id).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(
        store.volume_named(&LOCAL, "data").await.unwrap(),
        Some(first.clone())
    );
    let again = make(bed, &LOCAL, "data", 100).await.unwrap_err();
    assert!(matches!(again, StoreError::VolumeNameTaken(_)), "{again}");

    store.retire_volume(&LOCAL, first.id, at(6)).await.unwrap();
    assert_eq!(store.volume(&LOCAL, first.id).await.unwrap(), None);
    assert_eq!(store.volume_named(&LOCAL, "data").await.unwrap(), None);
    assert_eq!(listed(bed, &LOCAL).await, []);
    let second = make(bed, &LOCAL, "data", 100).await.unwrap();
    let on_node = store
        .volumes_on(&SYSTEM, skerry_store::LOCAL_NODE)
        .await
        .unwrap();
    assert_eq!(
        on_node
            .iter()
            .map(|v| (v.id, v.removed_at))
            .collect::<Vec<_>>(),
        [(first.id, Some(at(6))), (second.id, None)]
    );
    for _ in 0..2 {
        store.forget_volume(&LOCAL, first.id).await.unwrap();
    }
    let on_node = store
        .volumes_on(&SYSTEM, skerry_store::LOCAL_NODE)
        .await
        .unwrap();
    assert_eq!(on_node, [second]);
}

async fn they_hold_no_more_together_than_they_may(bed: &Bed) {
    let store = &bed.store;
    let quotas = Quotas {
        max_volume_mb: 1000,
        ..Quotas::DEFAULT
    };
    store
        .set_quotas(&SYSTEM, LOCAL.org(), quotas)
        .await
        .unwrap();
    let first = make(bed, &LOCAL, "first", 600).await.unwrap();
    let full = make(bed, &LOCAL, "second", 401).await.unwrap_err();
    assert!(
        matches!(full, StoreError::VolumeSpace { limit_mb: 1000 }),
        "{full}"
    );
    assert_eq!(
        skerry_types::Error::from(full).code,
        ErrorCode::QuotaExceeded
    );
    make(bed, &LOCAL, "second", 400).await.unwrap();
    store.retire_volume(&LOCAL, first.id, at(6)).await.unwrap();
    make(bed, &LOCAL, "third", 16).await.unwrap_err();
    store.forget_volume(&LOCAL, first.id).await.unwrap();
    make(bed, &LOCAL, "third", 16).await.unwrap();
}

async fn whoever_has_one_is_known_until_it_is_deleted(bed: &Bed) {
    bed.node(9).await;
    let store = &bed.store;
    let volume = make(bed, &LOCAL, "data", 100).await.unwrap();
    let other = make(bed, &LOCAL, "other", 100).await.unwrap();
    let mut new = new_sandbox();
    new.volumes = vec![Mounted {
        volume: volume.id,
        name: volume.name.clone(),
        path: "/data".to_owned(),
    }];
    let mounted = new.volumes.clone();
    let node = Some(skerry_store::LOCAL_NODE);
    let made = store
        .create_sandbox(&LOCAL, new, node, at(1))
        .await
        .unwrap();
    let read = store.sandbox(&LOCAL, made.id).await.unwrap();
    assert_eq!((&made.volumes, &read.volumes), (&mounted, &mounted));
    assert_eq!(
        store.volume_users(&LOCAL, volume.id, 5).await.unwrap(),
        [made.id]
    );
    assert_eq!(store.volume_users(&LOCAL, other.id, 5).await.unwrap(), []);
    let change = skerry_store::Change::default();
    store
        .act(&LOCAL, made.id, Action::Delete, &change, at(2))
        .await
        .unwrap();
    assert_eq!(store.volume_users(&LOCAL, volume.id, 5).await.unwrap(), []);
}

async fn nobody_sees_another_orgs_volume(bed: &Bed) {
    let store = &bed.store;
    let volume = make(bed, &LOCAL, "data", 100).await.unwrap();
    let spy = bed.org("spy", Quotas::DEFAULT).await;
    assert_eq!(listed(bed, &spy).await, []);
    assert_eq!(store.volume(&spy, volume.id).await.unwrap(), None);
    assert_eq!(store.volume_named(&spy, "data").await.unwrap(), None);
    store.retire_volume(&spy, volume.id, at(6)).await.unwrap();
    store.forget_volume(&spy, volume.id).await.unwrap();
    assert_eq!(store.volume(&LOCAL, volume.id).await.unwrap(), Some(volume));
    make(bed, &spy, "data", 100).await.unwrap();
}
