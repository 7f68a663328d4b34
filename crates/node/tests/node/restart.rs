//! A daemon that is killed at any moment, and another one over the same folder.

use skerry_proto::node::{Sandboxes, StartExec};
use skerry_types::{ExecEnd, FailureReason, SandboxId, SandboxState};

use crate::bed::{Bed, Daemon, Island, counted, request, sh};

/// The simulated machine has a runtime of its own, which outlives the daemons.
fn machine() -> (tokio::runtime::Runtime, Bed) {
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
            (ExecEnd::SandboxStopped, &b"before\n"[..])
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
