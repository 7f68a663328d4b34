//! Sandboxes that stand ready.

use std::collections::HashSet;
use std::sync::Arc;

use skerry_node::{Node, Options, ReadyLimits};
use skerry_proto::node::{CreateSandbox, Sandboxes};
use skerry_types::{ExecEnd, Resources, SandboxId, SandboxState};

use crate::bed::{Bed, Island, patiently, request, sh};

/// A node that makes up to two of a kind ahead.
async fn node(bed: &Bed) -> Arc<Node> {
    let ready = ReadyLimits {
        each: 2,
        memory_mb: 0,
    };
    let options = Options {
        ready,
        ..bed.options()
    };
    Node::start(options).await.unwrap()
}

async fn create(node: &Node) -> SandboxId {
    let id = SandboxId::new();
    node.create(request(id)).await.unwrap();
    id
}

/// What is on the machine that is none of these, once so many stand ready.
async fn standing(
    bed: &Bed,
    node: &Node,
    others: &[SandboxId],
    ready: usize,
) -> HashSet<SandboxId> {
    let now = || -> HashSet<SandboxId> {
        let all = bed.world.sandboxes().into_iter();
        all.filter(|id| !others.contains(id)).collect()
    };
    patiently("so many stand ready", || node.ready() == ready).await;
    now()
}

#[tokio::test]
async fn one_that_stands_ready_becomes_the_next_sandbox_and_nobody_elses() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let first = create(&node).await;
    let ready = standing(&bed, &node, &[first], 1).await;
    let second = create(&node).await;
    let others: HashSet<_> = standing(&bed, &node, &[first], 2).await;
    assert!(
        ready.is_subset(&others) && !others.contains(&second),
        "it was not made anew"
    );
    let third = create(&node).await;
    for id in [second, third] {
        let island = Island {
            node: Arc::clone(&node),
            id,
        };
        let exec = island.start(sh("echo here")).await;
        assert_eq!(island.finish(exec).await.end, ExecEnd::Exited { code: 0 });
        node.delete(id).await.unwrap();
    }
    node.close().await;
    assert_eq!(
        bed.world.sandboxes(),
        [first],
        "the ready ones went, the sandbox stays"
    );
}

#[tokio::test]
async fn who_asks_without_a_rest_is_given_some_that_stood_ready() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let mut asked = 0;
    loop {
        let id = create(&node).await;
        if !bed.world.sandboxes().contains(&id) {
            break;
        }
        asked += 1;
        assert!(asked < 1000, "each was made when it was asked for");
        node.delete(id).await.unwrap();
    }
    node.close().await;
}

#[tokio::test]
async fn a_sandbox_of_another_kind_or_with_a_name_is_made() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let first = create(&node).await;
    standing(&bed, &node, &[first], 1).await;
    let id = SandboxId::new();
    let mut others = vec![first];
    for different in [
        CreateSandbox {
            name: Some("own".to_owned()),
            ..request(id)
        },
        CreateSandbox {
            resources: Resources {
                pids: 77,
                ..Resources::FREE_FORM
            },
            ..request(SandboxId::new())
        },
    ] {
        others.push(different.id);
        node.create(different).await.unwrap();
        assert!(bed.world.sandboxes().contains(others.last().unwrap()));
    }
}

#[tokio::test]
async fn a_dead_one_is_not_handed_out() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let first = create(&node).await;
    for place in standing(&bed, &node, &[first], 1).await {
        bed.world.lose_agent(place);
        patiently("the dead one goes", || {
            !bed.world.sandboxes().contains(&place)
        })
        .await;
    }
    let id = create(&node).await;
    let second = Island { node, id };
    second.ok("echo alive").await;
}

#[tokio::test]
async fn the_next_daemon_keeps_what_was_handed_out_and_sweeps_what_was_not() {
    let bed = Bed::new().await;
    let before = node(&bed).await;
    let first = create(&before).await;
    let place = standing(&bed, &before, &[first], 1).await;
    let second = create(&before).await;
    standing(&bed, &before, &[first], 2).await;
    drop(before);

    let after = bed.node().await;
    assert_eq!(
        after.get(second).await.unwrap().state,
        SandboxState::Running
    );
    let left: HashSet<_> = bed.world.sandboxes().into_iter().collect();
    let kept: HashSet<_> = place.into_iter().chain([first]).collect();
    assert_eq!(left, kept);
    after.delete(second).await.unwrap();
    assert_eq!(bed.world.sandboxes(), [first]);
}
