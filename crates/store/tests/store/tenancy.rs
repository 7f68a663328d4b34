//! One org cannot see, change or even notice what another has, through any function that takes a tenant.

use skerry_store::{Change, Filter, Quotas, StoreError, Times};
use skerry_types::{Action, KeyId, OrgId, SandboxId, SandboxState};

use crate::bed::{Bed, LOCAL, at, on_both_engines};
use crate::forks::new_fork;
use crate::keys::new_key;

on_both_engines! {
    sandboxes_of_another_org_do_not_exist,
    keys_of_another_org_do_not_exist,
    an_org_has_its_own_quotas,
}

/// The error must be the same, to the letter, as for an id that nobody has.
fn same_as_absent<T: std::fmt::Debug>(
    theirs: Result<T, StoreError>,
    absent: Result<T, StoreError>,
    id: &str,
    nobody: &str,
) {
    let theirs = skerry_types::Error::from(theirs.unwrap_err());
    let mut absent = skerry_types::Error::from(absent.unwrap_err());
    absent.message = absent.message.replace(nobody, id);
    assert_eq!(theirs, absent);
}

async fn sandboxes_of_another_org_do_not_exist(bed: &Bed) {
    bed.node(9).await;
    let spy = bed.org("spy", Quotas::DEFAULT).await;
    let theirs = bed.running(&LOCAL, 0).await;
    let waits = bed.queued(&LOCAL, 0).await;
    let (id, nobody) = (theirs.id, SandboxId::new());
    let (id_text, nobody_text) = (id.to_string(), nobody.to_string());
    let store = &bed.store;
    macro_rules! hidden {
        ($id:ident => $call:expr) => {{
            let call = async |$id: SandboxId| $call.await;
            same_as_absent(call(id).await, call(nobody).await, &id_text, &nobody_text);
        }};
    }
    let change = Change::default();
    let times = Times {
        ttl: Some((1, None)),
        ..Times::default()
    };
    hidden!(id => store.sandbox(&spy, id));
    hidden!(id => store.act(&spy, id, Action::Delete, &change, at(1)));
    hidden!(id => store.fork_sandbox(&spy, id, new_fork(), at(1)));
    hidden!(id => store.fork_tree(&spy, id));
    hidden!(id => store.set_timeout(&spy, id, times, at(1)));
    let stolen = store.transition(&spy, &theirs, Action::Delete, &change, at(1));
    assert!(matches!(stolen.await, Err(StoreError::NotFound(_))));
    assert!(!store.mark_ttl_warned(&spy, id).await.unwrap());
    store.touch(&spy, id, at(500)).await.unwrap();
    assert_eq!(store.queue_position(&spy, waits.id).await.unwrap(), None);
    let everything = Filter {
        states: SandboxState::ALL.to_vec(),
        limit: 200,
        ..Filter::default()
    };
    assert_eq!(store.sandboxes(&spy, &everything).await.unwrap().items, []);
    let children = Filter {
        forked_from: Some(id),
        ..everything
    };
    assert_eq!(store.sandboxes(&spy, &children).await.unwrap().items, []);
    assert_eq!(
        store.sandbox(&LOCAL, id).await.unwrap(),
        theirs,
        "untouched"
    );
}

async fn keys_of_another_org_do_not_exist(bed: &Bed) {
    let spy = bed.org("spy", Quotas::DEFAULT).await;
    let key = bed
        .store
        .create_key(&LOCAL, new_key(1), at(0))
        .await
        .unwrap();
    assert_eq!(bed.store.keys(&spy).await.unwrap(), []);
    let nobody = KeyId::new();
    same_as_absent(
        bed.store.revoke_key(&spy, key.id, at(1)).await,
        bed.store.revoke_key(&spy, nobody, at(1)).await,
        &key.id.to_string(),
        &nobody.to_string(),
    );
    assert_eq!(bed.store.keys(&LOCAL).await.unwrap(), [key]);
}

async fn an_org_has_its_own_quotas(bed: &Bed) {
    let quotas = Quotas {
        max_concurrent_sandboxes: 1,
        ..Quotas::DEFAULT
    };
    let tenant = bed.org("tiny", quotas).await;
    assert_eq!(bed.store.quotas(&tenant).await.unwrap(), quotas);
    assert_eq!(bed.store.quotas(&LOCAL).await.unwrap(), Quotas::LOCAL);
    assert_eq!(bed.store.org(&tenant).await.unwrap().slug, "tiny");
    bed.queued(&LOCAL, 0).await;
    bed.queued(&tenant, 0).await;
    let nobody = skerry_store::Tenant::of(OrgId::new());
    assert!(bed.store.quotas(&nobody).await.is_err());
    assert!(bed.store.org(&nobody).await.is_err());
}
