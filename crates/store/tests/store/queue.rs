//! The queue: who waits, in which order they go, and that no slot is given twice.

use skerry_store::{NodeState, Quotas};
use skerry_types::{Action, NodeId, SandboxState as S};

use crate::bed::{Bed, LOCAL, SYSTEM, at, ids, new_sandbox, on_both_engines};

on_both_engines! {
    first_come_first_served,
    nobody_overtakes_the_queue,
    only_an_online_node_takes_work,
    claims_race,
}

async fn first_come_first_served(bed: &Bed) {
    let node = bed.node(2).await;
    let other = bed.org("other", Quotas::DEFAULT).await;
    let mut waiting = Vec::new();
    for (i, tenant) in [LOCAL, other, LOCAL].iter().enumerate() {
        let sandbox = bed.queued(tenant, i64::try_from(i).unwrap()).await;
        let place = bed.store.queue_position(tenant, sandbox.id).await.unwrap();
        assert_eq!(place, Some(u32::try_from(i).unwrap() + 1));
        waiting.push(sandbox);
    }
    let claim = || bed.store.claim_queued(&SYSTEM, node, at(9));
    for first in &waiting[..2] {
        let claimed = claim().await.unwrap().unwrap();
        assert_eq!((claimed.id, claimed.state), (first.id, S::Provisioning));
        assert_eq!(claimed.node_id, Some(node));
    }
    assert_eq!(claim().await.unwrap(), None, "both slots are held");
    assert_eq!(bed.held(node).await, 2);
    let place = bed.store.queue_position(&LOCAL, waiting[2].id).await;
    assert_eq!(place.unwrap(), Some(1));
    let place = bed.store.queue_position(&LOCAL, waiting[0].id).await;
    assert_eq!(place.unwrap(), None, "it waits no longer");
    bed.act(&waiting[0], Action::Fail, 10).await;
    assert_eq!(claim().await.unwrap().unwrap().id, waiting[2].id);
    let held = bed.store.sandboxes_on(&SYSTEM, node).await.unwrap();
    assert_eq!(ids(&held), [waiting[1].id, waiting[2].id]);
}

async fn nobody_overtakes_the_queue(bed: &Bed) {
    let node = bed.node(5).await;
    let create = || {
        bed.store
            .create_sandbox(&LOCAL, new_sandbox(), Some(node), at(1))
    };
    let waiting = bed.queued(&LOCAL, 0).await;
    assert_eq!(create().await.unwrap().state, S::Queued);
    bed.store.claim_queued(&SYSTEM, node, at(2)).await.unwrap();
    bed.store.claim_queued(&SYSTEM, node, at(2)).await.unwrap();
    assert_eq!(create().await.unwrap().state, S::Provisioning);
    bed.act(&waiting, Action::Delete, 3).await;
}

async fn only_an_online_node_takes_work(bed: &Bed) {
    let node = bed.node(5).await;
    bed.queued(&LOCAL, 0).await;
    for state in [NodeState::Offline, NodeState::Draining, NodeState::Disabled] {
        bed.store
            .set_node_state(&SYSTEM, node, state, at(1))
            .await
            .unwrap();
        assert_eq!(
            bed.store.claim_queued(&SYSTEM, node, at(2)).await.unwrap(),
            None
        );
    }
    let online = NodeState::Online;
    for (id, known) in [(node, true), (NodeId::new(), false)] {
        let set = bed.store.set_node_state(&SYSTEM, id, online, at(3)).await;
        assert_eq!(set.is_ok(), known);
    }
    let row = bed.store.node(&SYSTEM, node).await.unwrap();
    assert_eq!(row.last_seen_at, Some(at(3)));
    let claimed = bed.store.claim_queued(&SYSTEM, node, at(4)).await.unwrap();
    assert!(claimed.is_some());
}

/// Two nodes with five slots each, twenty that wait, forty claims at once: ten get a slot, each one of its own.
async fn claims_race(bed: &Bed) {
    let nodes = [bed.node(5).await, bed.node_with(NodeId::new(), 5).await];
    for _ in 0..20 {
        bed.queued(&LOCAL, 0).await;
    }
    let mut claims = tokio::task::JoinSet::new();
    for i in 0..40 {
        let (store, node) = (bed.store.clone(), nodes[i % 2]);
        claims.spawn(async move { store.claim_queued(&SYSTEM, node, at(1)).await.unwrap() });
    }
    let mut claimed: Vec<_> = claims.join_all().await.into_iter().flatten().collect();
    claimed.sort_by_key(|sandbox| sandbox.id);
    claimed.dedup_by_key(|sandbox| sandbox.id);
    assert_eq!(claimed.len(), 10);
    for node in nodes {
        assert_eq!(bed.held(node).await, 5);
    }
}
