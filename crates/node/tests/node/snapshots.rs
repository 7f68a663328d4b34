//! Snapshots: what is made from them, rolling back, and what a crash leaves.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use skerry_driver::{Driver, Extent};
use skerry_driver_sim::SimDriver;
use skerry_proto::node::{
    CreateSandbox, Events, Execs, ForkSandbox, Map, MemoryWish, SandboxReport, Sandboxes,
    Snapshots, TakeSnapshot,
};
use skerry_types::{Egress, ErrorCode, ExecEnd, SandboxId, SandboxState, SnapshotId};

use crate::bed::{Bed, Island, request, sh};

impl Island {
    async fn last_event(&self) -> u64 {
        let events = self.node.events(self.id, 0, false).await.unwrap();
        events
            .map(|event| event.unwrap().seq)
            .collect::<Vec<_>>()
            .await[..]
            .last()
            .copied()
            .unwrap()
    }

    pub(crate) async fn snapshot(&self) -> SnapshotId {
        let id = SnapshotId::new();
        let request = TakeSnapshot {
            sandbox: self.id,
            id,
            memory: MemoryWish::Auto,
            defaults: None,
        };
        let report = self.node.take_snapshot(request).await.unwrap();
        assert_eq!(
            (report.id, report.sandbox, report.memory),
            (id, self.id, false)
        );
        id
    }

    /// Another sandbox of the same node, made from a snapshot.
    async fn from(&self, snapshot: SnapshotId) -> Self {
        let request = CreateSandbox {
            snapshot: Some(snapshot),
            ..request(SandboxId::new())
        };
        let id = request.id;
        let made: SandboxReport = self.node.create(request).await.unwrap();
        assert_eq!(made.state, SandboxState::Running);
        Self {
            node: self.node.clone(),
            id,
        }
    }
}

#[tokio::test]
async fn a_snapshot_makes_any_number_of_sandboxes_and_none_touches_another() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo then > /tmp/when").await;
    let snapshot = island.snapshot().await;
    island.ok("echo later > /tmp/when").await;
    for _ in 0..2 {
        let made = island.from(snapshot).await;
        assert_eq!(made.ok("cat /tmp/when").await, "then\n");
        made.ok("echo mine > /tmp/when").await;
    }
    assert_eq!(island.ok("cat /tmp/when").await, "later\n");
    bed.world.script(|script| script.fail_removals = 1);
    island.node.remove_snapshot(snapshot).await.unwrap_err();
    for _ in 0..2 {
        island.node.remove_snapshot(snapshot).await.unwrap();
    }
    assert!(bed.world.snapshots().is_empty());
    let request = CreateSandbox {
        snapshot: Some(snapshot),
        ..request(SandboxId::new())
    };
    let refused = island.node.create(request).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_a_rollback_left_is_taken_away_in_the_end() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let snapshot = island.snapshot().await;
    bed.world.script(|script| script.fail_removals = 3);
    island.node.roll_back(island.id, snapshot).await.unwrap();
    assert_eq!(bed.world.sandboxes().len(), 2, "it could not be removed");
    // Of the simulated clock.
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bed.world.sandboxes().len(), 1, "only its own place is left");
    assert_eq!(island.ok("echo here").await, "here\n");
}

#[tokio::test]
async fn a_rollback_brings_back_the_files_and_ends_what_ran() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo then > /tmp/when").await;
    let snapshot = island.snapshot().await;
    island.ok("echo later > /tmp/when").await;
    let running = island.start(sh("cat")).await;
    let report = island.node.roll_back(island.id, snapshot).await.unwrap();
    assert_eq!(report.state, SandboxState::Running);
    assert_eq!(island.finish(running).await.end, ExecEnd::SandboxStopped);
    assert_eq!(island.ok("cat /tmp/when").await, "then\n");
    // Its record goes on.
    assert!(island.node.get_exec(island.id, running).await.is_ok());
    assert_eq!(bed.world.sandboxes().len(), 1, "the place it left is gone");

    let another = island.from(snapshot).await;
    let refused = another
        .node
        .roll_back(another.id, snapshot)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound, "not one of its own");
}

#[tokio::test]
async fn a_paused_one_is_put_back_too_and_runs() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo then > /tmp/when").await;
    let snapshot = island.snapshot().await;
    island.ok("echo later > /tmp/when").await;
    island.node.pause(island.id, None).await.unwrap();
    let report = island.node.roll_back(island.id, snapshot).await.unwrap();
    assert_eq!(report.state, SandboxState::Running);
    assert_eq!(island.ok("cat /tmp/when").await, "then\n");
    assert_eq!(bed.world.sandboxes().len(), 1, "the place it left is gone");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_goes_once_nobody_makes_anything_of_it() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo then > /tmp/when").await;
    let snapshot = island.snapshot().await;
    bed.world
        .script(|script| script.delay = Duration::from_secs(2));
    let making = island.from(snapshot);
    let removing = async {
        while bed.world.sandboxes().len() < 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let removing = island.node.remove_snapshot(snapshot);
        let late = async {
            let request = CreateSandbox {
                snapshot: Some(snapshot),
                ..request(SandboxId::new())
            };
            island.node.create(request).await.unwrap_err()
        };
        let (removed, late) = tokio::join!(removing, late);
        removed.unwrap();
        assert_eq!(late.code, ErrorCode::NotFound, "nobody new gets it");
    };
    let (made, ()) = tokio::join!(making, removing);
    assert_eq!(made.ok("cat /tmp/when").await, "then\n");
    assert!(bed.world.snapshots().is_empty());
}

#[tokio::test]
async fn forks_of_one_snapshot_are_of_one_instant() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo then > /tmp/when").await;
    let base = island.snapshot().await;
    let at = island.last_event().await;
    island.ok("echo later > /tmp/when").await;
    let fork = |parent| ForkSandbox {
        egress: Egress::default(),
        parent,
        id: SandboxId::new(),
        env: Map::new(),
        name: None,
        memory: MemoryWish::Auto,
        base: Some(base),
    };
    for _ in 0..3 {
        let request = fork(island.id);
        let id = request.id;
        island.node.fork(request).await.unwrap();
        let child = Island {
            node: Arc::clone(&island.node),
            id,
        };
        assert_eq!(child.ok("cat /tmp/when").await, "then\n");
        let mut events = child.node.events(id, 0, false).await.unwrap();
        let created = events.next().await.unwrap().unwrap();
        assert_eq!(created.data["forked_from"], island.id.to_string());
        // The note of the snapshot itself comes after it.
        assert_eq!(created.data["forked_at_seq"], at - 1);
    }
    let stranger = fork(SandboxId::new());
    let refused = island.node.fork(stranger).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let take = |memory| TakeSnapshot {
        sandbox: island.id,
        id: SnapshotId::new(),
        memory,
        defaults: None,
    };
    let refused = island.node.take_snapshot(take(MemoryWish::Required)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Unsupported);
    island.node.stop(island.id, None).await.unwrap();
    island.until(SandboxState::Stopped).await;
    let refused = island.node.take_snapshot(take(MemoryWish::Auto)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::SandboxNotRunning);
    assert!(bed.world.snapshots().is_empty());
}

#[tokio::test]
async fn the_next_daemon_has_the_snapshots_and_the_place_after_a_rollback() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo then > /tmp/when").await;
    let snapshot = island.snapshot().await;
    island.node.roll_back(island.id, snapshot).await.unwrap();
    let left_by_a_crash = SnapshotId::new();
    let driver = SimDriver::new(Arc::clone(&bed.world));
    let place = bed.world.sandboxes()[0];
    driver
        .snapshot(place, left_by_a_crash, Extent::Files)
        .await
        .unwrap();
    let id = island.id;
    drop(island);

    let island = Island {
        node: bed.node().await,
        id,
    };
    assert_eq!(
        bed.world.snapshots(),
        [snapshot],
        "what nobody was told of is swept away"
    );
    assert_eq!(island.ok("cat /tmp/when").await, "then\n");
    assert_eq!(
        island.from(snapshot).await.ok("cat /tmp/when").await,
        "then\n"
    );
}
