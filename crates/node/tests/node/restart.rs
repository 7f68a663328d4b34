//! A daemon that is killed at any moment, and another one over the same folder.

use std::sync::Arc;

use futures::StreamExt;
use skerry_proto::node::{Events, Execs, Sandboxes, StartExec};
use skerry_types::{ErrorCode, ExecEnd, FailureReason, SandboxId, SandboxState};

use crate::bed::{Bed, Daemon, Island, counted, request, sh};

/// The simulated machine has a runtime of its own, which outlives the daemons.
pub(crate) fn machine() -> (tokio::runtime::Runtime, Bed) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let bed = runtime.block_on(Bed::new());
    (runtime, bed)
}

fn create(daemon: &Daemon) -> SandboxId {
    let id = SandboxId::new();
    daemon.run(async |node| node.create(request(id)).await.unwrap());
    id
}

#[test]
fn output_that_somebody_saw_is_never_lost_and_the_rest_follows() {
    const LINES: u32 = 1_500_000;
    let (_machine, bed) = machine();
    let mut daemon = Daemon::start(&bed);
    let id = create(&daemon);
    let start = StartExec {
        stdin: true,
        ..sh(&format!("seq 1 {LINES}; cat; exit 6"))
    };
    let exec = start.id;
    daemon.run(async |node| Island { node, id }.start(start).await);
    let wanted = [counted(LINES), b"typed".to_vec()].concat();
    for round in 1..=8 {
        let seen =
            daemon.run(async |node| Island { node, id }.until_out(exec, round * 300_000).await);
        assert!(
            wanted.starts_with(&seen),
            "not what was written, in round {round}"
        );
        daemon.kill();
        daemon = Daemon::start(&bed);
        let report = daemon.run(async |node| node.get(id).await.unwrap());
        assert_eq!(report.state, SandboxState::Running);
    }
    let finished = daemon.run(async |node| {
        let island = Island { node, id };
        island.stdin(exec, b"typed", true).await;
        island.finish(exec).await
    });
    assert!(
        finished.stdout == wanted,
        "{} other bytes",
        finished.stdout.len()
    );
    assert_eq!(finished.end, ExecEnd::Exited { code: 6 });
}

#[test]
fn input_goes_on_where_an_earlier_daemon_left_it() {
    let (_machine, bed) = machine();
    let mut daemon = Daemon::start(&bed);
    let id = create(&daemon);
    let start = StartExec {
        stdin: true,
        ..sh("cat")
    };
    let exec = start.id;
    daemon.run(async |node| Island { node, id }.start(start).await);
    for part in [&b"one "[..], b"two ", b"three"] {
        daemon.run(async |node| Island { node, id }.stdin(exec, part, false).await);
        daemon.kill();
        daemon = Daemon::start(&bed);
    }
    let finished = daemon.run(async |node| {
        let island = Island { node, id };
        island.stdin(exec, b"", true).await;
        island.finish(exec).await
    });
    assert_eq!(finished.stdout, b"one two three");
    assert_eq!(finished.end, ExecEnd::Exited { code: 0 });
}

#[test]
fn what_ended_while_no_daemon_looked_is_told_as_it_was() {
    let (_machine, bed) = machine();
    let daemon = Daemon::start(&bed);
    let (runs, dies) = (create(&daemon), create(&daemon));
    let ends = sh("echo before; cat; echo after; exit 8");
    let lost = sh("echo before; sleep 1000");
    let (ended, lost_id) = (ends.id, lost.id);
    daemon.run(async |node| {
        let (one, two) = (
            Island {
                node: node.clone(),
                id: runs,
            },
            Island { node, id: dies },
        );
        one.start(ends).await;
        two.start(lost).await;
        two.until_out(lost_id, 1).await;
    });
    daemon.kill();
    bed.world.lose_agent(dies);
    let daemon = Daemon::start(&bed);
    daemon.run(async |node| {
        let (one, two) = (
            Island {
                node: node.clone(),
                id: runs,
            },
            Island { node, id: dies },
        );
        let finished = one.finish(ended).await;
        assert_eq!(finished.stdout, b"before\nafter\n");
        assert_eq!(finished.end, ExecEnd::Exited { code: 8 });
        let report = two.report().await;
        assert_eq!(
            (report.state, report.reason),
            (SandboxState::Failed, Some(FailureReason::AgentLost))
        );
        let finished = two.finish(lost_id).await;
        assert_eq!(
            (finished.end, &finished.stdout[..]),
            (ExecEnd::NodeLost, &b"before\n"[..]),
            "it may have ended by itself before its sandbox did"
        );
    });
}

#[test]
fn a_command_that_never_reached_the_agent_failed_to_start() {
    let (_machine, bed) = machine();
    let daemon = Daemon::start(&bed);
    let id = create(&daemon);
    daemon.run(async |node| Island { node, id }.ok("true").await);
    bed.world.script(|script| script.refuse_connects = u32::MAX);
    bed.world.break_links(id);
    let start = sh("echo ran > /tmp/ran");
    let exec = start.id;
    daemon.run(async |node| Island { node, id }.start(start).await);
    daemon.kill();
    bed.world.script(|script| script.refuse_connects = 0);
    let daemon = Daemon::start(&bed);
    let end = daemon.run(async |node| Island { node, id }.finish(exec).await.end);
    assert!(matches!(end, ExecEnd::FailedToStart { .. }), "{end:?}");
    assert_eq!(bed.world.file(id, "/tmp/ran"), None);
}

#[test]
fn a_create_that_a_daemon_did_not_finish_is_failed_and_leaves_nothing() {
    let (_machine, bed) = machine();
    let daemon = Daemon::start(&bed);
    let id = SandboxId::new();
    bed.world
        .script(|script| script.delay = std::time::Duration::from_secs(1000));
    daemon.run(async |node| {
        let create = node.create(request(id));
        let mut create = std::pin::pin!(create);
        // As far as the driver: by then the record says that it was begun.
        while node.get(id).await.is_err() {
            assert!(futures::poll!(&mut create).is_pending());
            tokio::task::yield_now().await;
        }
    });
    daemon.kill();
    bed.world
        .script(|script| script.delay = std::time::Duration::ZERO);
    let daemon = Daemon::start(&bed);
    let report = daemon.run(async |node| node.get(id).await.unwrap());
    assert_eq!(
        (report.state, report.reason),
        (SandboxState::Failed, Some(FailureReason::ProvisionFailed))
    );
    daemon.run(async |node| node.delete(id).await.unwrap());
    assert!(bed.world.sandboxes().is_empty());
}

#[test]
fn what_belongs_to_nobody_is_swept_and_what_was_deleted_stays_deleted() {
    let (_machine, bed) = machine();
    let daemon = Daemon::start(&bed);
    let (kept, deleted) = (create(&daemon), create(&daemon));
    daemon.run(async |node| node.delete(deleted).await.unwrap());
    daemon.kill();
    let folder = bed.data_dir().join("node/sandboxes");
    let stranger = {
        let other = Daemon::start(&bed);
        let id = create(&other);
        other.kill();
        std::fs::remove_dir_all(folder.join(id.label())).unwrap();
        id
    };
    let daemon = Daemon::start(&bed);
    assert_eq!(bed.world.sandboxes(), [kept]);
    daemon.run(async |node| {
        node.get(stranger).await.unwrap_err();
        assert_eq!(
            node.get(deleted).await.unwrap().state,
            SandboxState::Deleted
        );
        assert_eq!(Island { node, id: kept }.ok("echo here").await, "here\n");
    });
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_up_is_missing_until_it_can_be() {
    let bed = Bed::new().await;
    let first = bed.island().await;
    let exec = first.start(sh("echo before; sleep 1000")).await;
    first.until_out(exec, 7).await;
    let damaged = bed.second(&first).await;
    let (id, other) = (first.id, damaged.id);
    drop((first, damaged));
    let meta = bed
        .data_dir()
        .join(format!("node/sandboxes/{}/meta.json", other.label()));
    let whole = std::fs::read(&meta).unwrap();
    std::fs::write(&meta, b"{").unwrap();
    bed.world.script(|script| script.fail_adopts = true);

    let node = bed.node().await;
    for id in [id, other] {
        let report = node.get(id).await.unwrap();
        assert_eq!(report.state, SandboxState::Missing);
        assert!(report.message.unwrap().contains("could not take it up"));
        let refused = node.start_exec(id, sh("true")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ServiceUnavailable);
        // What is followed is what is there so far: the journal is opened anew when it is taken up.
        let events = node.events(id, 0, true).await.unwrap();
        assert!(events.count().await > 0);
    }
    node.delete(id).await.unwrap_err();
    assert_eq!(node.list().await.unwrap().len(), 2);
    assert_eq!(bed.world.sandboxes().len(), 2, "nothing was swept away");

    bed.world.script(|script| script.fail_adopts = false);
    std::fs::write(&meta, whole).unwrap();
    for id in [id, other] {
        let island = Island {
            node: Arc::clone(&node),
            id,
        };
        island.until(SandboxState::Running).await;
        assert_eq!(island.ok("echo here").await, "here\n");
    }
    node.exec_signal(id, exec, 9).await.unwrap();
    let finished = Island { node, id }.finish(exec).await;
    assert_eq!(finished.stdout, b"before\n");
}

#[tokio::test]
async fn a_deletion_that_a_daemon_did_not_finish_is_finished() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("echo before; sleep 1000")).await;
    island.until_out(exec, 7).await;
    let id = island.id;
    drop(island);
    let folder = bed.data_dir().join("node/sandboxes").join(id.label());
    std::fs::rename(folder.join("meta.json"), folder.join("meta.deleting")).unwrap();

    let node = bed.node().await;
    assert_eq!(node.get(id).await.unwrap().state, SandboxState::Deleted);
    assert_eq!(bed.world.sandboxes(), []);
    let gone = Island { node, id }.finish(exec).await;
    assert_eq!(gone.stdout, b"before\n");
    assert_eq!(gone.end, ExecEnd::SandboxDeleted);
    assert!(!folder.join("meta.deleting").exists());
}

#[tokio::test]
async fn what_nobody_can_read_can_be_deleted() {
    let bed = Bed::new().await;
    let first = bed.island().await;
    let exec = first.start(sh("echo before; sleep 1000")).await;
    first.until_out(exec, 7).await;
    let (id, whole) = (first.id, bed.second(&first).await.id);
    drop(first);
    let folder = bed.data_dir().join("node/sandboxes").join(id.label());
    std::fs::write(folder.join("meta.json"), b"{").unwrap();

    let node = bed.node().await;
    let refused = node.start_exec(id, sh("true")).await.unwrap_err();
    assert!(refused.hint.unwrap().contains("delete"));
    for _ in 0..2 {
        node.delete(id).await.unwrap();
        assert_eq!(node.get(id).await.unwrap().state, SandboxState::Deleted);
    }
    assert_eq!(bed.world.sandboxes(), [whole]);
    let lost = Island { node, id };
    assert_eq!(lost.finish(exec).await.stdout, b"before\n");
    assert!(!folder.join("meta.json").exists());
    drop(lost);
    let later = bed.node().await;
    assert_eq!(later.get(id).await.unwrap().state, SandboxState::Deleted);
    assert_eq!(later.list().await.unwrap().len(), 1);
}
