//! Sandboxes that stand ready.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use skerry_driver_sim::SimDriver;
use skerry_node::{Node, Options, ReadyLimits};
use skerry_proto::node::{CreateSandbox, Events, MemoryWish, Sandboxes, Snapshots, TakeSnapshot};
use skerry_types::{ExecEnd, Resources, SandboxId, SandboxState, SnapshotId};

use crate::bed::{Bed, Island, patiently, request, sh};

/// A node that makes up to two of a kind ahead.
async fn node(bed: &Bed) -> Arc<Node> {
    let ready = ReadyLimits {
        each: 2,
        memory_mb: 0,
        prepared: 0,
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
async fn one_that_hangs_keeps_only_its_own_kind_waiting() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let first = create(&node).await;
    standing(&bed, &node, &[first], 1).await;
    bed.world.script(|script| script.hang_creates = 1);
    create(&node).await;
    patiently("the next one hangs", || {
        bed.world.script(|script| script.hang_creates == 0)
    })
    .await;
    let other = CreateSandbox {
        resources: Resources {
            pids: 77,
            ..Resources::FREE_FORM
        },
        ..request(SandboxId::new())
    };
    node.create(other).await.unwrap();
    standing(&bed, &node, &[], 1).await;
    node.close().await;
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

/// A node whose snapshots have memory, and of which as many stand ready as there is memory for.
async fn node_with_memory(bed: &Bed, sandboxes: u64) -> Arc<Node> {
    let driver = SimDriver::that_keeps_memory(Arc::clone(&bed.world));
    let ready = ReadyLimits {
        each: 2,
        memory_mb: sandboxes * u64::from(Resources::FREE_FORM.memory_mb),
        prepared: 0,
    };
    let options = Options {
        ready,
        drivers: vec![Arc::new(driver)],
        ..bed.options()
    };
    Node::start(options).await.unwrap()
}

/// A snapshot of a new sandbox in which this file says something, and that sandbox, which is gone.
async fn snapshot(node: &Arc<Node>, says: &str) -> SnapshotId {
    let island = Island {
        node: Arc::clone(node),
        id: create(node).await,
    };
    island.ok(&format!("echo {says} > /tmp/says")).await;
    let id = SnapshotId::new();
    let take = TakeSnapshot {
        sandbox: island.id,
        id,
        memory: MemoryWish::Auto,
        defaults: None,
    };
    node.take_snapshot(take).await.unwrap();
    node.delete(island.id).await.unwrap();
    id
}

async fn create_from(node: &Arc<Node>, snapshot: SnapshotId) -> Island {
    let request = CreateSandbox {
        snapshot: Some(snapshot),
        ..request(SandboxId::new())
    };
    let id = request.id;
    node.create(request).await.unwrap();
    Island {
        node: Arc::clone(node),
        id,
    }
}

impl Bed {
    /// What is there of this snapshot's files and belongs to no sandbox yet, once so much does.
    async fn ready_of(&self, says: &str, others: &[SandboxId], count: usize) -> Vec<SandboxId> {
        let is_of_it = |id: &SandboxId| {
            let said = self.world.file(*id, "/tmp/says");
            !others.contains(id) && said == Some(format!("{says}\n").into_bytes())
        };
        let now = || -> Vec<_> {
            self.world
                .sandboxes()
                .into_iter()
                .filter(is_of_it)
                .collect()
        };
        patiently("so many of it stand ready", || now().len() == count).await;
        now()
    }
}

impl Island {
    /// It was not made when it was asked for.
    async fn stood_ready(&self) -> bool {
        let events = self.node.events(self.id, 0, false).await.unwrap();
        let events: Vec<_> = events.map(Result::unwrap).collect().await;
        let ready = events.iter().find(|event| event.kind == "sandbox.ready");
        ready.unwrap().data["steps"][0]["name"] == "stood ready"
    }
}

#[tokio::test]
async fn each_snapshot_has_its_own_that_stand_ready_and_they_go_with_it() {
    let bed = Bed::new().await;
    let node = node(&bed).await;
    let (red, blue) = (snapshot(&node, "red").await, snapshot(&node, "blue").await);
    let mut made = Vec::new();
    for (snapshot, says) in [(red, "red"), (blue, "blue")] {
        let first = create_from(&node, snapshot).await;
        assert!(!first.stood_ready().await);
        made.push(first.id);
        made.extend(bed.ready_of(says, &[first.id], 1).await);
    }
    let second = create_from(&node, red).await;
    assert!(second.stood_ready().await);
    assert_eq!(second.ok("cat /tmp/says").await, "red\n");
    assert!(
        !bed.world.sandboxes().contains(&second.id),
        "it has the place of the one that stood ready"
    );
    bed.ready_of("red", &made, 2).await;
    node.remove_snapshot(red).await.unwrap();
    assert_eq!(second.ok("cat /tmp/says").await, "red\n");
    node.delete(second.id).await.unwrap();
    bed.ready_of("red", &made, 0).await;
    assert!(create_from(&node, blue).await.stood_ready().await);
    node.close().await;
}

#[tokio::test]
async fn copied_processes_are_held_until_somebody_has_them() {
    let bed = Bed::new().await;
    let node = node_with_memory(&bed, 1).await;
    let snapshot = snapshot(&node, "then").await;
    let mut given = vec![create_from(&node, snapshot).await.id];
    for _ in 0..3 {
        let place = bed.ready_of("then", &given, 1).await[0];
        assert!(bed.world.is_held(place), "nobody has it yet");
        let island = create_from(&node, snapshot).await;
        assert!(island.stood_ready().await);
        assert!(!bed.world.is_held(place));
        assert!(!given.contains(&place), "it was handed out twice");
        given.push(place);
    }
    node.close().await;
}

/// A node, a snapshot, and where one of it stands ready.
async fn one_ready(bed: &Bed) -> (Arc<Node>, SnapshotId, SandboxId) {
    let node = node_with_memory(bed, 2).await;
    let snapshot = snapshot(&node, "then").await;
    let first = create_from(&node, snapshot).await.id;
    let place = bed.ready_of("then", &[first], 1).await[0];
    (node, snapshot, place)
}

#[tokio::test]
async fn what_cannot_be_made_new_is_destroyed_and_the_sandbox_made_another_way() {
    let bed = Bed::new().await;
    let (node, snapshot, place) = one_ready(&bed).await;
    // Once, whoever talks to its agent is hung up on.
    let mut links = bed.world.replace_agent(place);
    let hangs_up = tokio::spawn(async move { drop(links.recv().await) });
    let island = create_from(&node, snapshot).await;
    hangs_up.await.unwrap();
    assert!(!island.stood_ready().await);
    assert_eq!(island.ok("cat /tmp/says").await, "then\n");
    assert!(!bed.world.is_held(place));
    node.close().await;
}

#[tokio::test]
async fn what_does_not_answer_is_given_up_in_time_to_make_another() {
    let bed = Bed::new().await;
    let (node, snapshot, place) = one_ready(&bed).await;
    let mut links = bed.world.replace_agent(place);
    // Once, nobody answers.
    let silence = tokio::spawn(async move { links.recv().await });
    tokio::time::pause();
    let island = create_from(&node, snapshot).await;
    assert!(!island.stood_ready().await);
    assert_eq!(island.ok("cat /tmp/says").await, "then\n");
    assert!(silence.await.unwrap().is_some());
    node.close().await;
}

#[tokio::test]
async fn what_has_memory_stands_ready_only_as_far_as_there_is_some_for_it() {
    let bed = Bed::new().await;
    let node = node_with_memory(&bed, 0).await;
    let snapshot = snapshot(&node, "then").await;
    let first = create_from(&node, snapshot).await.id;
    let smaller = CreateSandbox {
        resources: Resources {
            pids: 77,
            ..Resources::FREE_FORM
        },
        ..request(SandboxId::new())
    };
    node.create(smaller).await.unwrap();
    // One kind is served after the other, in the order in which they were first asked for.
    patiently("those without stand ready", || node.ready() == 2).await;
    bed.ready_of("then", &[first], 0).await;
    node.close().await;
}
