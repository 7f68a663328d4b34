//! What is to be deleted is on record until it is.

use skerry_store::Quotas;
use skerry_types::{Action, FailureReason as Why, SandboxId};

use crate::bed::{Bed, LOCAL, SYSTEM, at, on_both_engines};

on_both_engines! {
    a_deletion_is_open_until_it_is_done,
}

async fn a_deletion_is_open_until_it_is_done(bed: &Bed) {
    bed.node(9).await;
    let spy = bed.org("spy", Quotas::DEFAULT).await;
    let [kept, late, soon] = [0, 1, 2].map(|n| bed.running(&LOCAL, n));
    let (kept, late, soon) = (kept.await, late.await, soon.await);
    let ask = async |tenant, id, why, seconds| {
        let asked = bed.store.ask_deletion(tenant, id, why, at(seconds));
        asked.await.unwrap();
    };
    ask(&spy, kept.id, Why::SandboxDeleted, 3).await;
    ask(&LOCAL, SandboxId::new(), Why::SandboxDeleted, 3).await;
    ask(&LOCAL, late.id, Why::TtlExceeded, 5).await;
    ask(&LOCAL, late.id, Why::SandboxDeleted, 6).await;
    ask(&LOCAL, soon.id, Why::SandboxDeleted, 4).await;
    let open = async || {
        let open = bed.store.open_deletions(&SYSTEM).await.unwrap();
        open.into_iter()
            .map(|deletion| (deletion.sandbox, deletion.reason))
            .collect::<Vec<_>>()
    };
    let first = (soon.clone(), Why::SandboxDeleted);
    assert_eq!(open().await, [first, (late.clone(), Why::TtlExceeded)]);
    // However it ends meanwhile, it is still to go.
    let failed = bed.act(&late, Action::Fail, 7).await;
    bed.act(&soon, Action::Delete, 8).await;
    assert_eq!(open().await, [(failed, Why::TtlExceeded)]);
    bed.act(&late, Action::Delete, 9).await;
    ask(&LOCAL, late.id, Why::SandboxDeleted, 10).await;
    assert_eq!(open().await, []);
}
