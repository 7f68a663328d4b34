//! API keys: which count, and when; that no secret is kept is in the type.

use skerry_store::{NewKey, StoreError};
use skerry_types::{KeyId, OrgId};

use crate::bed::{Bed, LOCAL, SYSTEM, at, on_both_engines};

on_both_engines! {
    a_key_speaks_for_its_org_until_it_ends,
    a_revoked_key_is_dead,
    use_is_noted_to_the_minute,
    a_secret_is_added_once,
    the_first_secret_of_the_server_stays,
}

pub(crate) fn new_key(byte: u8) -> NewKey {
    NewKey {
        id: KeyId::new(),
        name: "ci".into(),
        prefix: "sk_abc".into(),
        hash: [byte; 32],
        scopes: vec!["exec:create".into()],
        expires_at: None,
    }
}

async fn counts(bed: &Bed, byte: u8, seconds: i64) -> Option<OrgId> {
    let found = bed.store.use_key(&SYSTEM, [byte; 32], at(seconds)).await;
    found.unwrap().map(|key| key.org_id)
}

async fn a_key_speaks_for_its_org_until_it_ends(bed: &Bed) {
    let new = NewKey {
        expires_at: Some(at(100)),
        ..new_key(1)
    };
    let made = bed
        .store
        .create_key(&LOCAL, new.clone(), at(0))
        .await
        .unwrap();
    assert_eq!((made.id, made.scopes), (new.id, new.scopes));
    assert_eq!(counts(bed, 1, 99).await, Some(LOCAL.org()));
    assert_eq!(counts(bed, 1, 100).await, None);
    assert_eq!(counts(bed, 2, 0).await, None);
}

async fn a_revoked_key_is_dead(bed: &Bed) {
    let made = bed
        .store
        .create_key(&LOCAL, new_key(1), at(0))
        .await
        .unwrap();
    bed.store.revoke_key(&LOCAL, made.id, at(5)).await.unwrap();
    let again = bed.store.revoke_key(&LOCAL, made.id, at(9)).await.unwrap();
    assert_eq!(again.revoked_at, Some(at(5)));
    assert_eq!(counts(bed, 1, 6).await, None);
    assert_eq!(bed.store.keys(&LOCAL).await.unwrap(), [again]);
}

async fn use_is_noted_to_the_minute(bed: &Bed) {
    bed.store
        .create_key(&LOCAL, new_key(1), at(0))
        .await
        .unwrap();
    for (used, noted) in [(10, 10), (69, 10), (70, 70)] {
        counts(bed, 1, used).await;
        let keys = bed.store.keys(&LOCAL).await.unwrap();
        assert_eq!(keys[0].last_used_at, Some(at(noted)));
    }
}

async fn a_secret_is_added_once(bed: &Bed) {
    bed.store
        .create_key(&LOCAL, new_key(1), at(0))
        .await
        .unwrap();
    let again = bed.store.create_key(&LOCAL, new_key(1), at(0)).await;
    assert!(matches!(again, Err(StoreError::Exists(_))));
}

async fn the_first_secret_of_the_server_stays(bed: &Bed) {
    let first = bed.store.server_secret(&SYSTEM, [1; 32]).await.unwrap();
    let second = bed.store.server_secret(&SYSTEM, [2; 32]).await.unwrap();
    assert_eq!((first, second), ([1; 32], [1; 32]));
}
