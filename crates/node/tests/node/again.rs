//! Starting what has ended again: the files, the record and the name of things go on; a crash in between loses none of it.

use std::time::Duration;

use futures::StreamExt;
use skerry_driver_sim::Stage;
use skerry_proto::node::{Events, Execs, Sandboxes};
use skerry_types::{ErrorCode, ExecEnd, FailureReason, SandboxId, SandboxState};

use crate::bed::{Bed, Daemon, Island, request, sh};
use crate::restart::machine;

impl Island {
    pub(crate) async fn stop(&self) {
        self.node.stop(self.id, None).await.unwrap();
        self.until(SandboxState::Stopped).await;
    }

    async fn start_again(&self) {
        let report = self.node.start(self.id).await.unwrap();
        let told = (report.state, report.reason, report.message, report.ended_at);
        assert_eq!(told, (SandboxState::Running, None, None, None));
    }

    pub(crate) async fn kinds(&self) -> Vec<String> {
        let events = self.node.events(self.id, 0, false).await.unwrap();
        let events = events.map(Result::unwrap).collect::<Vec<_>>().await;
        let numbers = events.iter().map(|event| event.seq);
        assert!(numbers.eq(1..=events.len() as u64), "a gap");
        events.into_iter().map(|event| event.kind).collect()
    }
}

#[tokio::test]
async fn files_env_and_record_go_on() {
    let bed = Bed::new().await;
    let node = bed.node().await;
    let mut order = request(SandboxId::new());
    order.env.insert("WHO".to_owned(), "me".to_owned());
    let id = order.id;
    node.create(order).await.unwrap();
    let island = Island { node, id };
    island.ok("echo kept > /tmp/file").await;
    let running = island.start(sh("sleep 1000")).await;
    for _ in 0..2 {
        island.stop().await;
        island.start_again().await;
        assert_eq!(island.ok("cat /tmp/file; echo $WHO").await, "kept\nme\n");
        assert_eq!(bed.world.sandboxes().len(), 1, "the place it left is gone");
    }
    assert_eq!(island.finish(running).await.end, ExecEnd::SandboxStopped);
    let kinds = island.kinds().await;
    let of = |kind: &str| kinds.iter().filter(|known| *known == kind).count();
    let lives = ["sandbox.ready", "sandbox.started", "sandbox.stopped"];
    assert_eq!(lives.map(of), [3, 2, 2]);
    let numbers = island.exec(running).await.number;
    assert_eq!(numbers, 2, "what ran before keeps its number");
    island.node.start(island.id).await.unwrap();
    island.node.delete(island.id).await.unwrap();
    assert!(bed.world.sandboxes().is_empty());
    let gone = island.node.start(island.id).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn one_that_died_is_started_again_and_one_that_never_ran_is_not() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo kept > /tmp/file").await;
    bed.world.lose_agent(island.id);
    island.until(SandboxState::Failed).await;
    island.start_again().await;
    assert_eq!(island.ok("cat /tmp/file").await, "kept\n");
    island.node.pause(island.id, None).await.unwrap();
    let paused = island.node.start(island.id).await.unwrap_err();
    assert_eq!(paused.code, ErrorCode::Conflict);

    bed.world
        .script(|script| script.fail_at = Some(Stage::Agent));
    let never = SandboxId::new();
    island.node.create(request(never)).await.unwrap_err();
    bed.world.script(|script| script.fail_at = None);
    let refused = island.node.start(never).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_start_that_fails_leaves_it_as_it_was() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo kept > /tmp/file").await;
    island.stop().await;
    for stage in Stage::ALL {
        bed.world.script(|script| script.fail_at = Some(stage));
        island.node.start(island.id).await.unwrap_err();
        let report = island.report().await;
        let told = (report.state, report.reason);
        assert_eq!(
            told,
            (SandboxState::Stopped, Some(FailureReason::SandboxStopped))
        );
        assert_eq!(bed.world.sandboxes(), [island.id], "{stage:?}");
        let last = island.kinds().await.pop();
        assert_eq!(last.as_deref(), Some("sandbox.start_failed"));
    }
    bed.world.script(|script| script.fail_at = None);
    island.start_again().await;
    assert_eq!(island.ok("cat /tmp/file").await, "kept\n");
}

#[tokio::test]
async fn one_whose_agent_does_not_end_it_is_killed_when_it_is_asked_again() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    island.ok("echo kept > /tmp/file").await;
    let silent = bed.world.replace_agent(island.id);
    for _ in 0..2 {
        island.node.stop(island.id, None).await.unwrap();
    }
    let stopped = island.until(SandboxState::Stopped).await;
    assert_eq!(stopped.reason, Some(FailureReason::SandboxStopped));
    drop(silent);
    island.start_again().await;
    assert_eq!(island.ok("cat /tmp/file").await, "kept\n");
}

/// A stopped sandbox with a file, and the daemon that has it.
fn stopped(bed: &Bed) -> (Daemon, SandboxId) {
    let daemon = Daemon::start(bed);
    let id = SandboxId::new();
    daemon.run(async |node| {
        node.create(request(id)).await.unwrap();
        let island = Island { node, id };
        island.ok("echo kept > /tmp/file").await;
        island.stop().await;
    });
    (daemon, id)
}

/// A daemon after a crash finds it stopped, with its files, and nothing else.
fn is_stopped_whole(bed: &Bed, id: SandboxId) {
    let daemon = Daemon::start(bed);
    daemon.run(async |node| {
        let island = Island { node, id };
        assert_eq!(island.report().await.state, SandboxState::Stopped);
        assert_eq!(bed.world.sandboxes().len(), 1, "the other place is gone");
        let refused = island.node.start_exec(id, sh("true")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::SandboxNotRunning);
        island.start_again().await;
        assert_eq!(island.ok("cat /tmp/file").await, "kept\n");
    });
}

#[test]
fn a_daemon_that_dies_while_it_is_made_leaves_it_stopped() {
    let (_machine, bed) = machine();
    let (daemon, id) = stopped(&bed);
    // Long enough to be seen between its stages.
    bed.world
        .script(|script| script.delay = Duration::from_millis(500));
    daemon.run(async |node| {
        let mut start = std::pin::pin!(node.start(id));
        while bed.world.sandboxes().len() < 2 {
            assert!(futures::poll!(start.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    });
    daemon.kill();
    bed.world.script(|script| script.delay = Duration::ZERO);
    is_stopped_whole(&bed, id);
}

#[test]
fn a_daemon_that_dies_before_it_is_on_record_leaves_it_stopped() {
    let (_machine, bed) = machine();
    let (daemon, id) = stopped(&bed);
    let journal = format!("node/sandboxes/{}/journal", id.label());
    let journal = bed.data_dir().join(journal);
    let before = std::fs::read(&journal).unwrap();
    daemon.run(async |node| node.start(id).await.unwrap());
    daemon.kill();
    // As if it had come no further than to the new place.
    std::fs::write(&journal, before).unwrap();
    is_stopped_whole(&bed, id);
}

#[test]
fn the_next_daemon_takes_it_up_running() {
    let (_machine, bed) = machine();
    let (daemon, id) = stopped(&bed);
    daemon.run(async |node| node.start(id).await.unwrap());
    daemon.kill();
    let daemon = Daemon::start(&bed);
    daemon.run(async |node| {
        let island = Island { node, id };
        assert_eq!(island.report().await.state, SandboxState::Running);
        assert_eq!(island.ok("cat /tmp/file").await, "kept\n");
    });
}
