//! Making, forking, pausing and deleting, also when the driver fails.

use std::time::Duration;

use skerry_driver_sim::Stage;
use skerry_proto::node::{
    Execs, ForkSandbox, Map, MemoryWish, START_TAG, Sandboxes, StartExec, TtySize,
};
use skerry_types::{Egress, ErrorCode, ExecEnd, FailureReason, SandboxId, SandboxState};

use crate::bed::{Bed, Island, request, sh};

#[tokio::test(start_paused = true)]
async fn a_create_that_fails_is_told_recorded_and_clean() {
    let bed = Bed::new().await;
    let node = bed.node().await;
    for stage in Stage::ALL {
        for fail_removals in [0, 1] {
            bed.world.script(|script| {
                script.fail_at = Some(stage);
                script.fail_removals = fail_removals;
            });
            let id = SandboxId::new();
            node.create(request(id)).await.unwrap_err();
            assert!(bed.world.sandboxes().is_empty(), "{stage:?}");
            let report = node.get(id).await.unwrap();
            assert_eq!(report.state, SandboxState::Failed, "{stage:?}");
            assert_eq!(report.reason, Some(FailureReason::ProvisionFailed));
            bed.world.script(|script| script.fail_removals = 0);
            node.delete(id).await.unwrap();
            assert_eq!(node.get(id).await.unwrap().state, SandboxState::Deleted);
            assert!(node.list().await.unwrap().is_empty());
        }
    }
    bed.world.script(|script| script.fail_at = None);
    let id = SandboxId::new();
    node.create(request(id)).await.unwrap();
    let again = node.create(request(id)).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Conflict);
    assert_eq!(node.get(id).await.unwrap().state, SandboxState::Running);
}

#[tokio::test(start_paused = true)]
async fn what_the_driver_cannot_do_is_refused_before_anything_is_made() {
    let bed = Bed::new().await;
    let node = bed.node().await;
    let wishes: [fn(&mut skerry_proto::node::CreateSandbox); 4] = [
        |r| r.network = "nat".to_owned(),
        |r| r.privilege = Some("root".to_owned()),
        |r| r.driver = Some("vm".to_owned()),
        |r| r.network = "everything".to_owned(),
    ];
    for wish in wishes {
        let mut request = request(SandboxId::new());
        wish(&mut request);
        let error = node.create(request.clone()).await.unwrap_err();
        assert!(
            matches!(
                error.code,
                ErrorCode::Unsupported | ErrorCode::ValidationError
            ),
            "{error:?}"
        );
        assert_eq!(
            node.get(request.id).await.unwrap_err().code,
            ErrorCode::NotFound
        );
    }
    assert!(bed.world.sandboxes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn deletes_that_race_are_all_fine() {
    let bed = Bed::new().await;
    bed.world
        .script(|script| script.delay = Duration::from_millis(100));
    let island = bed.island().await;
    let deletes = (0..8).map(|_| island.node.delete(island.id));
    for deleted in futures::future::join_all(deletes).await {
        deleted.unwrap();
    }
    island.node.delete(island.id).await.unwrap();
    island.node.delete(SandboxId::new()).await.unwrap();
    assert!(bed.world.sandboxes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_changes_nothing_and_can_be_repeated() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    bed.world.script(|script| script.fail_removals = 1);
    island.node.delete(island.id).await.unwrap_err();
    assert_eq!(island.ok("echo on").await, "on\n");
    island.node.delete(island.id).await.unwrap();
    assert!(bed.world.sandboxes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_exec_that_was_accepted_while_its_sandbox_was_deleted_has_an_end() {
    let bed = Bed::new().await;
    bed.world
        .script(|script| script.delay = Duration::from_millis(10));
    let island = bed.island().await;
    let starts = (0..40).map(|number| {
        let island = island.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(number / 2)).await;
            island.node.start_exec(island.id, sh("sleep 1000")).await
        }
    });
    let starts = futures::future::join_all(starts);
    let (started, deleted) = tokio::join!(starts, island.node.delete(island.id));
    deleted.unwrap();
    let accepted: Vec<_> = started.into_iter().flatten().collect();
    assert!(!accepted.is_empty());
    for exec in accepted {
        assert_eq!(island.finish(exec.id).await.end, ExecEnd::SandboxDeleted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fork_has_the_files_and_a_life_of_its_own() {
    let bed = Bed::new().await;
    let parent = bed.island().await;
    parent.ok("echo parent > /tmp/who").await;
    let fork = |id| ForkSandbox {
        egress: Egress::default(),
        memory: MemoryWish::Auto,
        parent: parent.id,
        id,
        env: Map::from([("WHO".to_owned(), "child".to_owned())]),
        name: None,
        base: None,
    };
    let id = SandboxId::new();
    let report = parent.node.fork(fork(id)).await.unwrap();
    assert_eq!(report.facts.unwrap().fork.as_deref(), Some("files"));
    let child = Island {
        node: parent.node.clone(),
        id,
    };
    assert_eq!(child.ok("cat /tmp/who; echo $WHO").await, "parent\nchild\n");
    bed.world
        .script(|script| script.fail_at = Some(Stage::Files));
    let failed = SandboxId::new();
    parent.node.fork(fork(failed)).await.unwrap_err();
    assert_eq!(
        parent.node.get(failed).await.unwrap().state,
        SandboxState::Failed
    );
    parent.node.delete(parent.id).await.unwrap();
    assert_eq!(child.ok("cat /tmp/who").await, "parent\n");
    let orphan = parent.node.fork(fork(SandboxId::new())).await.unwrap_err();
    assert_eq!(orphan.code, ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_paused_sandbox_takes_no_command_and_goes_on_where_it_was() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("echo before; sleep 1; echo after")).await;
    island.until_out(exec, 1).await;
    let report = island.node.pause(island.id, None).await.unwrap();
    assert_eq!(report.state, SandboxState::Paused);
    let refused = island.node.start_exec(island.id, sh("true")).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::SandboxNotRunning);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(island.exec(exec).await.end, None);
    island.node.resume(island.id).await.unwrap();
    assert_eq!(island.finish(exec).await.stdout, b"before\nafter\n");
    island.node.pause(island.id, None).await.unwrap();
    island.node.stop(island.id, None).await.unwrap();
    island.until(SandboxState::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_command_is_use_and_neither_an_open_terminal_nor_its_own_program_is() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let exec = island.start(sh("echo ready; sleep 1000")).await;
    island.until_out(exec, 6).await;
    let before = island.report().await.last_active_at;
    assert!(island.report().await.last_active_at > before);
    island.node.exec_signal(island.id, exec, 9).await.unwrap();
    island.finish(exec).await;
    let terminal = StartExec {
        tty: Some(TtySize { cols: 80, rows: 24 }),
        ..sh("echo ready; sleep 1000")
    };
    let program = StartExec {
        tag: Some(START_TAG.to_owned()),
        ..sh("echo ready; sleep 1000")
    };
    for kept in [terminal, program] {
        let exec = island.start(kept).await;
        island.until_out(exec, 6).await;
        let before = island.report().await.last_active_at;
        assert_eq!(island.report().await.last_active_at, before);
    }
}
