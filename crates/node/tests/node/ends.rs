//! Every exec ends in one explicit way.

use std::time::Duration;

use skerry_proto::node::{Command, Execs, Sandboxes, StartExec};
use skerry_types::{ErrorCode, ExecEnd, FailureReason, SandboxState};

use crate::bed::{Bed, sh};

const TERM: i32 = 15;
const KILL: i32 = 9;
const STUBBORN: &str = "trap '' TERM; echo ready; while true; do sleep 1000; done";

#[tokio::test(start_paused = true)]
async fn exits_signals_timeouts_and_failures_are_told_apart() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    for code in [0, 1, 137, 255] {
        let finished = island
            .run(&format!("echo out; echo err >&2; exit {code}"))
            .await;
        assert_eq!(finished.end, ExecEnd::Exited { code });
        assert_eq!(
            (&finished.stdout[..], &finished.stderr[..]),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }
    for signal in [TERM, KILL] {
        let exec = island.start(sh("echo ready; sleep 1000")).await;
        island.until_out(exec, 1).await;
        island
            .node
            .exec_signal(island.id, exec, signal)
            .await
            .unwrap();
        assert_eq!(island.finish(exec).await.end, ExecEnd::Signaled { signal });
        let again = island.node.exec_signal(island.id, exec, signal).await;
        assert_eq!(again.unwrap_err().code, ErrorCode::Conflict);
    }
    for script in ["sleep 1000", STUBBORN] {
        let exec = island
            .start(StartExec {
                timeout: Some(Duration::from_secs(3)),
                ..sh(script)
            })
            .await;
        assert_eq!(island.finish(exec).await.end, ExecEnd::TimedOut);
    }
    let exec = island
        .start(StartExec {
            command: Command::Argv(vec!["no-such-program".to_owned()]),
            ..sh("")
        })
        .await;
    let end = island.finish(exec).await.end;
    assert!(
        matches!(&end, ExecEnd::FailedToStart { reason } if reason.contains("no-such-program")),
        "{end:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_runs_even_what_ignores_it() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let gentle = island.start(sh("sleep 1000")).await;
    let stubborn = island.start(sh(STUBBORN)).await;
    island.until_out(stubborn, 1).await;
    let report = island.node.stop(island.id, None).await.unwrap();
    assert_eq!(report.state, SandboxState::Stopping);
    let refused = island.node.start_exec(island.id, sh("true")).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::SandboxNotRunning);
    let report = island.until(SandboxState::Stopped).await;
    assert_eq!(report.reason, Some(FailureReason::SandboxStopped));
    for exec in [gentle, stubborn] {
        assert_eq!(island.finish(exec).await.end, ExecEnd::SandboxStopped);
    }
    island.node.stop(island.id, None).await.unwrap();
    assert_eq!(island.report().await.state, SandboxState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_a_sandbox_whose_agent_hears_nothing_is_a_kill() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("echo ready; sleep 1000")).await;
    island.until_out(exec, 1).await;
    bed.world.script(|script| {
        script.cuts.extend(vec![0; 10_000]);
        script.fail_removals = 1;
    });
    // The link that stands breaks with the next message, and no other holds.
    bed.world.break_links(island.id);
    island.node.stop(island.id, None).await.unwrap();
    island.until(SandboxState::Stopped).await;
    assert_eq!(island.finish(exec).await.end, ExecEnd::SandboxStopped);
}

#[tokio::test(start_paused = true)]
async fn a_delete_ends_what_runs_and_leaves_only_the_record() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("echo ready; sleep 1000")).await;
    island.until_out(exec, 1).await;
    island.node.delete(island.id).await.unwrap();
    let finished = island.finish(exec).await;
    assert_eq!(finished.end, ExecEnd::SandboxDeleted);
    assert_eq!(finished.stdout, b"ready\n");
    assert_eq!(island.report().await.state, SandboxState::Deleted);
    assert!(bed.world.sandboxes().is_empty());
    let gone = island.node.start_exec(island.id, sh("true")).await;
    assert_eq!(gone.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_lost_agent_fails_the_sandbox_and_ends_what_ran() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("echo ready; sleep 1000")).await;
    island.until_out(exec, 1).await;
    bed.world.lose_agent(island.id);
    let report = island.until(SandboxState::Failed).await;
    assert_eq!(report.reason, Some(FailureReason::AgentLost));
    let finished = island.finish(exec).await;
    assert_eq!(
        (finished.end, &finished.stdout[..]),
        (ExecEnd::SandboxStopped, &b"ready\n"[..])
    );
    assert_eq!(island.node.list().await.unwrap().len(), 1);
    island.node.delete(island.id).await.unwrap();
    assert!(bed.world.sandboxes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_dies_for_lack_of_memory_says_so() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("echo ready; sleep 1000")).await;
    island.until_out(exec, 1).await;
    bed.world.script(|script| script.oom_kills = 1);
    bed.world.lose_agent(island.id);
    island.until(SandboxState::Failed).await;
    assert_eq!(island.finish(exec).await.end, ExecEnd::OomKilled);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_while_it_writes_leaves_a_log_that_is_whole() {
    let bed = Bed::new().await;
    bed.world
        .script(|script| script.die_after = Some(Duration::from_secs(5)));
    let island = bed.island().await;
    let exec = island
        .start(sh("while true; do echo tick; sleep 0.01; done"))
        .await;
    let finished = island.finish(exec).await;
    assert_eq!(finished.end, ExecEnd::SandboxStopped);
    assert!(
        finished.stdout.len() > 2000,
        "{} bytes",
        finished.stdout.len()
    );
    assert!(
        b"tick\n"
            .repeat(finished.stdout.len())
            .starts_with(&finished.stdout)
    );
    island.until(SandboxState::Failed).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_id_runs_once() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let request = sh("echo ran >> /tmp/runs");
    let first = island
        .node
        .start_exec(island.id, request.clone())
        .await
        .unwrap();
    let again = island
        .node
        .start_exec(island.id, request.clone())
        .await
        .unwrap();
    assert_eq!((first.id, first.number), (again.id, again.number));
    island.finish(first.id).await;
    let later = island.node.start_exec(island.id, request).await.unwrap();
    assert_eq!(later.end, Some(ExecEnd::Exited { code: 0 }));
    assert_eq!(island.ok("cat /tmp/runs").await, "ran\n");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_fills_its_record_with_output_ends() {
    let bed = Bed::new().await;
    let node = bed.node().await;
    let mut request = crate::bed::request(skerry_types::SandboxId::new());
    request.resources.disk_mb = 1;
    let id = node.create(request).await.unwrap().id;
    let island = crate::bed::Island { node, id };
    let exec = island.start(sh("while true; do seq 1 10000; done")).await;
    let report = island.until(SandboxState::Failed).await;
    assert_eq!(report.reason, Some(FailureReason::RecordFull));
    let finished = island.finish(exec).await;
    assert_eq!(finished.end, ExecEnd::SandboxStopped);
    assert!(
        finished.stdout.len() > 900_000,
        "the record is as long as it may be"
    );
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_hangs_holds_up_nobody_for_ever() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let other = bed.second(&island).await;
    bed.world.script(|script| script.hang_removals = 1);
    let error = island.node.delete(island.id).await.unwrap_err();
    assert!(error.message.contains("took longer than"), "{error:?}");
    assert_eq!(island.report().await.state, SandboxState::Running);
    assert_eq!(island.ok("echo still").await, "still\n");
    assert_eq!(other.ok("echo fine").await, "fine\n");
    island.node.delete(island.id).await.unwrap();
    assert_eq!(bed.world.sandboxes(), [other.id]);
}
